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

// A module that is require()d becomes CommonJS, where import.meta needs to be said in other words.
const requirable = [
  '--format=cjs',
  '--platform=node',
  '--banner=const importMetaUrl = require("node:url").pathToFileURL(__filename).href;',
  '--define:import.meta.url=importMetaUrl',
  '--define:import.meta.dirname=__dirname',
  '--define:import.meta.filename=__filename',
];

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
  args.push(`--sourcefile=${path}`, ...(format === 'commonjs' ? requirable : []));
  const options = { input: source, cwd: dirname(path), encoding: 'utf8', maxBuffer: 1 << 28 };
  return { source, file, done, args, options };
}

function keep(file, code) {
  try {
    mkdirSync(kept, { recursive: true });
    const part = `${file}.${process.pid}.${Math.random()}`;
    writeFileSync(part, code);
    renameSync(part, file);
  } catch {
    // Another user's, or no room: it works without.
  }
  return code;
}

/** esbuild says where the mistake is; its command line is nobody's business. */
function mistake({ stderr, message }) {
  return new SyntaxError(stderr?.trim() || message);
}

export function transformSync(path) {
  const { done, file, args, options } = job(path, 'commonjs');
  if (done !== undefined) return done;
  let code;
  try {
    code = execFileSync(esbuild, args, { ...options, stdio: 'pipe' });
  } catch (error) {
    throw mistake(error);
  }
  return keep(file, code);
}

export async function transform(path, format) {
  const { source, done, file, args, options } = job(path, format);
  if (done !== undefined) return done;
  const running = promisify(execFile)(esbuild, args, options);
  running.child.stdin.on('error', () => {});
  running.child.stdin.end(source);
  const { stdout } = await running.catch((error) => {
    throw mistake(error);
  });
  return keep(file, stdout);
}
