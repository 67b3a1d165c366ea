// SPDX-License-Identifier: MIT
// This clone, and what is built in it.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hashOf, locked } from './cache.ts';
import { step } from './progress.ts';
import { run } from './run.ts';

export const projectRoot = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');

/** dist/ from lib/, where lib/ changed. */
export async function ensureDist(): Promise<void> {
  const stamp = join(projectRoot, 'dist/.built-from');
  const inputs = ['lib', 'tsconfig.json', 'package.json', 'package-lock.json'].map((name) => join(projectRoot, name));
  const now = await hashOf(inputs);
  const before = () => readFile(stamp, 'utf8').catch(() => '');
  if ((await before()) === now) return;
  await locked('dist', async () => {
    if ((await before()) === now) return;
    await step('compiling the library', () =>
      run('npm', ['run', '--silent', 'build:ts'], { cwd: projectRoot, purpose: 'compiling the library' }),
    );
    await mkdir(join(projectRoot, 'dist'), { recursive: true });
    await writeFile(stamp, now);
  });
}
