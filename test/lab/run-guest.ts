// SPDX-License-Identifier: MIT
/** Runs scripts/guest as a person or another script would. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const projectRoot = join(import.meta.dirname, '../..');

/** In the guest: makes the kernel report a bug, how=… says which. */
export const splat = 'insmod /lib/modules/$(uname -r)/extra/selftest/splat.ko';

export interface Ended {
  code: number | null;
  stdout: Buffer;
  stderr: string;
  seconds: number;
}

export interface Started {
  child: ChildProcess;
  ended: Promise<Ended>;
}

/** What a test that failed half-way left running: the next one is not to wait for it. */
const left = new Set<ChildProcess>();
afterEach(() => {
  for (const child of left) child.kill();
});

export function startGuest(args: string[], env: NodeJS.ProcessEnv = {}, wrapper: string[] = []): Started {
  const [program, ...rest] = [...wrapper, join(projectRoot, 'scripts/guest'), ...args] as [string, ...string[]];
  const start = Date.now();
  const child = spawn(program, rest, { env: { ...process.env, ...env }, stdio: 'pipe' });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (data) => stdout.push(data));
  child.stderr.on('data', (data) => stderr.push(data));
  child.stdin.on('error', () => {});
  left.add(child);
  child.on('close', () => left.delete(child));
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      const seconds = (Date.now() - start) / 1000;
      resolve({ code, stdout: Buffer.concat(stdout), stderr: `${Buffer.concat(stderr)}`, seconds });
    });
  });
  return { child, ended };
}

export function guest(args: string[], input: Buffer | string = '', env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const { child, ended } = startGuest(args, env);
  child.stdin?.end(input);
  return ended;
}

/** Process ids whose command line holds this text. */
export function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}

export async function until(condition: () => boolean, seconds: number): Promise<boolean> {
  for (let i = 0; i < seconds * 20 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 50));
  return condition();
}

/** Runs a script of tests, whose counts are not ours. */
const tests = (script: string, args: string[]) =>
  spawnSync(join(projectRoot, 'scripts', script), args, {
    cwd: projectRoot,
    encoding: 'utf8',
    env: { ...process.env, DMABUF_TEST_RESULT: '' },
  });

export const matrix = (...args: string[]) => tests('test-matrix', args);
export const debug = (...args: string[]) => tests('test-debug', args);
