// SPDX-License-Identifier: MIT
// This clone, and what is built in it.
import { existsSync } from 'node:fs';
import { chmod, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hashOf, locked } from './cache.ts';
import { step } from './progress.ts';
import { run } from './run.ts';

export const projectRoot = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');

/** dist/ from lib/, where lib/ changed. */
export async function ensureDist(): Promise<void> {
  const dist = join(projectRoot, 'dist');
  const stamp = join(dist, '.built-from');
  const inputs = ['lib', 'tsconfig.json', 'tsconfig.build.json', 'package.json', 'package-lock.json'].map((name) =>
    join(projectRoot, name),
  );
  const now = await hashOf(inputs);
  const before = () => readFile(stamp, 'utf8').catch(() => '');
  if ((await before()) === now) return;
  await locked('dist', async () => {
    if ((await before()) === now) return;
    // Made beside it: a guest of this clone may be using what is there.
    const [part, old] = [`${dist}.part`, `${dist}.old`];
    for (const path of [part, old]) await rm(path, { recursive: true, force: true });
    await step('compiling the library', () =>
      run('npm', ['run', '--silent', 'build:ts', '--', '--outDir', part], {
        cwd: projectRoot,
        purpose: 'compiling the library',
      }),
    );
    // As npm makes it for whoever installs it; a link to it is good after the next build, too.
    await chmod(join(part, 'command/main.js'), 0o755);
    await writeFile(join(part, '.built-from'), now);
    if (existsSync(dist)) await rename(dist, old);
    await rename(part, dist);
    await rm(old, { recursive: true, force: true });
  });
}
