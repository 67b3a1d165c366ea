// SPDX-License-Identifier: MIT
/** Projects that use the package, as ES modules and as CommonJS, typed and run. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeProject, tsc } from '../project.ts';

const use = `
const heap: Heap = openHeap('memfd');
const buffer: DmaBuf = heap.allocSync(100, { name: 'consumer' });
const length: number = buffer.write((bytes) => bytes.fill(1).length);
const client: typeof IonClient = IonClient;
const camera: typeof Capture = Capture;
console.log(buffer.name, length, table.length > 0, client.name, camera.name);
buffer.close();
heap.close();
`;

const consumers = {
  'consumer.mts': `
import { type DmaBuf, type Heap, openHeap } from 'dmabuf';
import * as boards from 'dmabuf/boards/msm8x60';
import { IonClient } from 'dmabuf/ion-handles';
import { Capture } from 'dmabuf/v4l2';
const table: string = boards.parameter;
${use}`,
  'consumer.cts': `
import dmabuf = require('dmabuf');
import boards = require('dmabuf/boards/msm8x60');
import handles = require('dmabuf/ion-handles');
import cameras = require('dmabuf/v4l2');
type DmaBuf = dmabuf.DmaBuf;
type Heap = dmabuf.Heap;
const { openHeap } = dmabuf;
const { IonClient } = handles;
const { Capture } = cameras;
const table: string = boards.parameter;
${use}`,
};

describe('a project that uses the package', () => {
  let folder: string;
  before(() => {
    folder = makeProject();
    for (const [name, text] of Object.entries(consumers)) writeFileSync(join(folder, name), text);
    const compilerOptions = { module: 'nodenext', target: 'es2022', strict: true, types: ['node'], outDir: 'out' };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: Object.keys(consumers) }));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('is compiled with its types, by import and by require', function () {
    this.timeout(60_000);
    const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
    assert.equal(status, 0, `${stdout}${stderr}`);
  });

  for (const name of ['consumer.mjs', 'consumer.cjs']) {
    it(`runs as ${name}`, () => {
      const { stdout, stderr } = spawnSync(process.execPath, [join(folder, 'out', name)], { encoding: 'utf8' });
      assert.equal(stdout, 'consumer 100 true IonClient Capture\n', stderr);
    });
  }
});
