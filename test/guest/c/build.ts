// SPDX-License-Identifier: MIT
/**
 * Compiles the C programs of this directory, static, for the guest:
 * `CC=aarch64-linux-gnu-gcc tsx test/guest/c/build.ts DIRECTORY`.
 *
 * @module
 */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const recipe = fileURLToPath(import.meta.url);
const sources = dirname(recipe);
const headers = readdirSync(sources)
  .filter((file) => file.endsWith('.h'))
  .map((file) => join(sources, file));
const { CC = 'arm-linux-gnueabihf-gcc' } = process.env;
const flags = ['-static', '-O2', '-std=gnu11', '-D_FILE_OFFSET_BITS=64', '-Wall', '-Wextra', '-Werror'];

function isCurrent(program: string, source: string): boolean {
  const made = statSync(program, { throwIfNoEntry: false });
  return made !== undefined && [source, recipe, ...headers].every((file) => made.mtimeMs > statSync(file).mtimeMs);
}

/** Compiles what is not current in `directory`, and answers with the names of all programs. */
export async function buildPrograms(directory: string, compiler = CC): Promise<string[]> {
  mkdirSync(directory, { recursive: true });
  const files = readdirSync(sources).filter((file) => file.endsWith('.c'));
  await Promise.all(
    files.map(async (file) => {
      const source = join(sources, file);
      const program = join(directory, basename(file, '.c'));
      if (!isCurrent(program, source)) await promisify(execFile)(compiler, [...flags, '-o', program, source]);
    }),
  );
  return files.map((file) => basename(file, '.c'));
}

if (process.argv[1] === recipe) {
  const [directory] = process.argv.slice(2);
  if (directory === undefined) throw new Error('usage: tsx test/guest/c/build.ts DIRECTORY');
  await buildPrograms(resolve(directory));
}
