// SPDX-License-Identifier: MIT
/** The examples that any machine can run. Those of the tour need devices, and peers are in peers.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { makeProject, root, tsc } from '../project.ts';

const examples = ['frames.ts', 'filter.ts'];
/** Before mocha's own time is up, which cannot end what blocks it. */
const options = { encoding: 'utf8', timeout: 50_000 } as const;

/** Programs as a project of its own has them: threads of Node.js 20 run no TypeScript. */
describe('examples', function () {
  this.timeout(60_000);
  this.slow(5000);
  let folder: string;

  before(() => {
    folder = makeProject();
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
    const compilerOptions = {
      ...{ module: 'nodenext', target: 'es2022', lib: ['es2023', 'esnext.disposable'], strict: true },
      ...{ types: ['node'], outDir: folder, rootDir: join(root, 'examples'), preserveSymlinks: true },
      paths: { dmabuf: [join(root, 'dist/index.d.ts')] },
      typeRoots: [join(root, 'node_modules/@types')],
    };
    const files = examples.map((name) => join(root, 'examples', name));
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
    const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, '-p', folder], options);
    assert.equal(status, 0, `${stdout}${stderr}`);
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const [name, expected] of [
    ['frames.ts', /^the other process saw \{ frames: 100, buffers: 3, wrong: 0 \}\n$/],
    ['filter.ts', /^600 rows by \d+ threads, 0 bytes wrong\n$/],
  ] as const) {
    it(`${name} does what it says`, () => {
      const script = join(folder, `${basename(name, '.ts')}.js`);
      const { status, stdout, stderr } = spawnSync(process.execPath, [script], options);
      assert.equal(stderr, '');
      assert.match(stdout, expected);
      assert.equal(status, 0);
    });
  }
});
