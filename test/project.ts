// SPDX-License-Identifier: MIT
/** A project of its own that uses the package, as somebody has one who has installed it. */
import { mkdirSync, mkdtempSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Of this project. */
export const root = fileURLToPath(new URL('..', import.meta.url));

/** TypeScript's compiler, a script. */
export const tsc = join(root, 'node_modules/typescript/bin/tsc');

/** A folder with the package and the types of Node.js in node_modules; who asked for it removes it. */
export function makeProject(): string {
  const folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
  mkdirSync(join(folder, 'node_modules/@types'), { recursive: true });
  symlinkSync(root, join(folder, 'node_modules/dmabuf'));
  symlinkSync(join(root, 'node_modules/@types/node'), join(folder, 'node_modules/@types/node'));
  return folder;
}
