// SPDX-License-Identifier: MIT
// TypeScript to what this node parses, by esbuild's own program: types, enums, `using`, decorators.
// Results are kept by content, so that a second process does not do it again.
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const esbuild = fileURLToPath(new URL('./esbuild', import.meta.url));
const kept = '/tmp/.dmabuf-ts';
const target = `node${process.versions.node}`;

function job(path, format) {
  const source = readFileSync(path);
  const file = `${kept}/${createHash('sha256').update(`${path}\0${format}\0`).update(source).digest('hex')}.js`;
  let done;
  try {
    done = readFileSync(file, 'utf8');
  } catch {
    // not yet
  }
  const loader = extname(path)
    .slice(1)
    .replace(/^[cm]ts$/, 'ts');
  const args = [`--loader=${loader}`, `--target=${target}`, '--sourcemap=inline', '--log-level=error', '--color=false'];
  args.push(`--sourcefile=${path}`, ...(format === undefined ? [] : [`--format=${format}`]));
  const options = { input: source, cwd: dirname(path), encoding: 'utf8', maxBuffer: 1 << 28 };
  return { source, file, done, args, options };
}

function keep(file, code) {
  mkdirSync(kept, { recursive: true });
  const part = `${file}.${process.pid}.${Math.random()}`;
  writeFileSync(part, code);
  renameSync(part, file);
  return code;
}

export function transformSync(path, format) {
  const { done, file, args, options } = job(path, format);
  return done ?? keep(file, execFileSync(esbuild, args, options));
}

export async function transform(path, format) {
  const { source, done, file, args, options } = job(path, format);
  if (done !== undefined) return done;
  const running = promisify(execFile)(esbuild, args, options);
  running.child.stdin.end(source);
  return keep(file, (await running).stdout);
}
