// SPDX-License-Identifier: MIT
// What was fetched or built once, kept for all clones of the user. An entry is a directory whose name ends in a
// hash of everything it was made from; it appears whole, by a rename, or not at all.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, readFile, rename, rm, stat, statfs, utimes } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { Failure } from './failure.ts';
import { say } from './progress.ts';
import { run, start } from './run.ts';

/** Another run has the lock for longer than this: said, so that nobody wonders. */
const SILENT_MS = 2000;

/** An entry nobody used for this long goes when a new one of its kind comes. */
const UNUSED_MS = 14 * 24 * 3600 * 1000;

const { DMABUF_CACHE, XDG_CACHE_HOME } = process.env;

export const cacheRoot = resolve(DMABUF_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'dmabuf'));

export type Key = string | number | boolean | null | Key[] | { [name: string]: Key };

/** The path an entry has, whether it exists or not. */
export function entryPath(kind: string, key: Key): string {
  return join(cacheRoot, `${kind}-${createHash('sha256').update(JSON.stringify(key)).digest('hex').slice(0, 24)}`);
}

/** Runs work while no other process holds the lock of that name. The kernel drops it with the process. */
export async function locked<T>(name: string, work: () => Promise<T>): Promise<T> {
  if (/[\s:"']/.test(cacheRoot)) {
    throw new Failure(
      `${cacheRoot}: the kernel's makefiles want a path without spaces, colons and quotes, name one by DMABUF_CACHE`,
    );
  }
  if (!existsSync(cacheRoot)) {
    // Not fs.mkdir: its recursive form never ends below /proc.
    await run('mkdir', ['-p', cacheRoot], { purpose: 'making the cache' }).catch((error) => {
      throw new Failure(`cannot write to ${cacheRoot}: name another place by DMABUF_CACHE\n${error.message}`);
    });
  }
  const holder = start('flock', [join(cacheRoot, `.${name}.lock`), 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const { stdin, stdout } = holder as { stdin: Writable; stdout: Readable };
  const gone = once(holder, 'close');
  const waiting = setTimeout(() => say(`waiting for another run that has ${cacheRoot} (${name})`), SILENT_MS);
  const first = await Promise.race([once(stdout, 'data'), gone.then(() => undefined)]);
  clearTimeout(waiting);
  if (!first) throw new Failure(`cannot lock ${cacheRoot}: is it writable?`);
  try {
    return await work();
  } finally {
    stdin.end();
    await gone;
  }
}

/**
 * The directory of an entry; made by build() in a directory of its own if it is not there yet.
 * @param needs bytes the build needs on the disk
 */
export async function cached(
  kind: string,
  key: Key,
  needs: number,
  build: (directory: string) => Promise<void>,
): Promise<string> {
  const path = entryPath(kind, key);
  if (!existsSync(path)) {
    await locked(kind, async () => {
      if (existsSync(path)) return;
      await room(needs);
      await sweep(kind);
      const part = await mkdtemp(join(cacheRoot, `.part-${kind}-`));
      try {
        await build(part);
        // mkdtemp lets nobody else in; in the guest it is not only root who looks.
        await chmod(part, 0o755);
        await rename(part, path);
      } catch (error) {
        throw spaceOr(error);
      } finally {
        await rm(part, { recursive: true, force: true });
      }
    });
  }
  await utimes(path, new Date(), new Date()).catch(() => {});
  return path;
}

/** Under the kind's lock: parts a killed run left behind, and entries unused for long. */
async function sweep(kind: string): Promise<void> {
  for (const name of await readdir(cacheRoot)) {
    const path = join(cacheRoot, name);
    const left = name.startsWith(`.part-${kind}-`);
    const old = name.startsWith(`${kind}-`) && Date.now() - (await stat(path)).mtimeMs > UNUSED_MS;
    if (!left && !old) continue;
    // Out of everybody's sight first: half an entry must not be taken for one.
    const doomed = left ? path : join(cacheRoot, `.part-${kind}-old-${process.pid}-${name}`);
    if (old) await rename(path, doomed);
    await rm(doomed, { recursive: true, force: true });
  }
}

async function room(needs: number): Promise<void> {
  const { bavail, bsize } = await statfs(cacheRoot);
  const free = bavail * bsize;
  if (free < needs) {
    throw new Failure(
      `${cacheRoot} has ${mib(free)} free and this needs ${mib(needs)}: make room, or name another place by DMABUF_CACHE`,
    );
  }
}

function spaceOr(error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || /no space left on device/i.test(message)) {
    return new Failure(`no space left in ${cacheRoot}: make room, or name another place by DMABUF_CACHE\n${message}`);
  }
  if (code === 'EACCES' || code === 'EROFS' || code === 'ENOTDIR' || code === 'EPERM') {
    return new Failure(`cannot write to ${cacheRoot} (${code}): name another place by DMABUF_CACHE`);
  }
  return error;
}

export const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;

/** One hash over files and directories: names, modes and contents. */
export async function hashOf(paths: string[], skip: (name: string) => boolean = () => false): Promise<string> {
  const hash = createHash('sha256');
  async function add(path: string, name: string): Promise<void> {
    const info = await stat(path);
    if (info.isDirectory()) {
      for (const child of (await readdir(path)).sort()) {
        if (!skip(child)) await add(join(path, child), `${name}/${child}`);
      }
    } else {
      hash.update(`${name}\0${info.mode & 0o111 ? 'x' : '-'}\0${info.size}\0`).update(await readFile(path));
    }
  }
  for (const path of paths) await add(path, path.split('/').at(-1) ?? path);
  return hash.digest('hex');
}
