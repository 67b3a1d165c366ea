// SPDX-License-Identifier: MIT
// npm run docs: the API reference, made of the declarations of the library and their TSDoc. Says what is missing in it.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Extractor, ExtractorConfig, ExtractorLogLevel, type ExtractorMessage } from '@microsoft/api-extractor';
import { say, step } from './progress.ts';
import { ensureDist, projectRoot } from './project.ts';
import { run, runMain } from './run.ts';

/** What a program can import, by the name it has in the reference. */
const entries = { dmabuf: 'index', 'dmabuf-ion-handles': 'ion-handles', 'dmabuf-v4l2': 'v4l2/index' };

/** Nothing is wrong: there are no release tags, and one entry names what another exports. */
const UNASKED = ['ae-missing-release-tag', 'ae-forgotten-export', 'TS'];

/** Writes the model of the whole API into a folder; answers what is wrong or missing in its comments. */
async function extractApi(folder: string): Promise<string[]> {
  await ensureDist();
  const found: string[] = [];
  const messageCallback = (message: ExtractorMessage) => {
    const { messageId, text, sourceFilePath = '', sourceFileLine: line = 0, category } = message;
    message.handled = true;
    if (category === 'console' || UNASKED.some((id) => messageId.startsWith(id))) return;
    found.push(`${sourceFilePath.replace(`${projectRoot}/`, '')}:${line}: ${messageId}: ${text}`);
  };
  for (const [name, entry] of Object.entries(entries)) {
    const config = ExtractorConfig.prepare({
      configObjectFullPath: undefined,
      packageJson: { name, version: '0.0.0' },
      packageJsonFullPath: join(projectRoot, 'package.json'),
      configObject: {
        projectFolder: projectRoot,
        mainEntryPointFilePath: join(projectRoot, `dist/${entry}.d.ts`),
        compiler: {
          overrideTsconfig: {
            extends: join(projectRoot, 'tsconfig.build.json'),
            include: [],
            files: [join(projectRoot, `dist/${entry}.d.ts`)],
          },
        },
        // Only it looks for what has no comment.
        apiReport: { enabled: true, reportFileName: name, reportFolder: folder, reportTempFolder: folder },
        docModel: { enabled: true, apiJsonFilePath: join(folder, `${name}.api.json`) },
        dtsRollup: { enabled: false },
        messages: {
          extractorMessageReporting: { 'ae-undocumented': { logLevel: ExtractorLogLevel.Warning } },
        },
      },
    });
    Extractor.invoke(config, { localBuild: true, messageCallback });
  }
  return found;
}

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
  return 0;
}

runMain('docs', main);
