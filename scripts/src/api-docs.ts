// SPDX-License-Identifier: MIT
// npm run docs: the API reference, made of the declarations of the library and their TSDoc. Fails, as lint does, where
// something is missing in it, which it says.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { extractApi } from './api-model.ts';
import { say, step } from './progress.ts';
import { projectRoot } from './project.ts';
import { run, runMain } from './run.ts';

async function main(): Promise<number> {
  const work = join(projectRoot, 'out/api-model');
  const out = join(projectRoot, 'out/api');
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  const found = await step('reading the declarations', () => extractApi(work));
  for (const line of found) say(line);
  await rm(out, { recursive: true, force: true });
  await step('writing the reference', () =>
    run('npx', ['--no-install', 'api-documenter', 'markdown', '-i', work, '-o', out], {
      cwd: projectRoot,
      purpose: 'writing the API reference',
    }),
  );
  await rm(work, { recursive: true });
  console.log('out/api/index.md');
  return found.length === 0 ? 0 : 1;
}

runMain('docs', main);
