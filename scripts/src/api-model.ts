// SPDX-License-Identifier: MIT
// The model of the whole API, made of the declarations of the library and their TSDoc.
import { join } from 'node:path';
import { Extractor, ExtractorConfig, ExtractorLogLevel, type ExtractorMessage } from '@microsoft/api-extractor';
import { ensureDist, projectRoot } from './project.ts';

/** What a program can import, by the name it has in the reference. */
const entries = { dmabuf: 'index', 'dmabuf-ion-handles': 'ion-handles', 'dmabuf-v4l2': 'v4l2/index' };

/** Nothing is wrong: there are no release tags, and one entry names what another exports. */
const UNASKED = ['ae-missing-release-tag', 'ae-forgotten-export', 'TS'];

/** Writes the model of the whole API into a folder; answers what is wrong or missing in its comments. */
export async function extractApi(folder: string): Promise<string[]> {
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
