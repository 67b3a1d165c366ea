// SPDX-License-Identifier: MIT
// This clone, and what is built in it.
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hashOf, locked } from './cache.ts';
import { step } from './progress.ts';
import { run } from './run.ts';

export const projectRoot = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');

/** dist/ from lib/, where lib/ changed. */
export async function ensureDist(): Promise<void> {
  const stamp = join(projectRoot, 'dist/.built-from');
  const inputs = ['lib', 'tsconfig.json', 'tsconfig.build.json', 'package.json', 'package-lock.json'].map((name) =>
    join(projectRoot, name),
  );
  const now = await hashOf(inputs);
  const before = () => readFile(stamp, 'utf8').catch(() => '');
  if ((await before()) === now) return;
  await locked('dist', async () => {
    if ((await before()) === now) return;
    // What no source makes any more goes.
    await rm(join(projectRoot, 'dist'), { recursive: true, force: true });
    await step('compiling the library', () =>
      run('npm', ['run', '--silent', 'build:ts'], { cwd: projectRoot, purpose: 'compiling the library' }),
    );
    await writeFile(stamp, now);
  });
}
