// SPDX-License-Identifier: MIT
/** The examples that want a camera, as somebody runs them who has none: they load vivid. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PNG } from 'pngjs';
import { describeModules, eventually, leavesNoPage, unload } from './support.ts';

const run = promisify(execFile);

/** The 75 % bars of vivid, from left to right, at the middle of each. */
const BARS = ['bfbfbf', 'bfbf00', '00bfbf', '00bf00', 'bf00bf', 'bf0000', '0000bf', '000000'];

function barsOf(file: string, row: number): string[] {
  const { width, data } = PNG.sync.read(readFileSync(file));
  return BARS.map((_, bar) => {
    const at = (row * width + Math.floor(((bar + 0.5) * width) / BARS.length)) * 4;
    return data.toString('hex', at, at + 3);
  });
}

const negative = (colour: string) => (0xffffff - Number.parseInt(colour, 16)).toString(16).padStart(6, '0');

describeModules('the example', function () {
  // Each begins with a node that compiles TypeScript.
  this.timeout(400_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-camera-'));
  });
  after(async () => {
    rmSync(folder, { recursive: true });
    await eventually(() => unload('vivid'));
  });

  const example = (name: string, ...args: string[]) => run(process.execPath, [`examples/${name}.ts`, ...args]);

  it('camera-to-png writes a frame', async () => {
    await leavesNoPage(async () => {
      const file = join(folder, 'camera.png');
      const { stdout, stderr } = await example('camera-to-png', file);
      assert.match(stderr, /^no camera here: loaded vivid/);
      assert.match(
        stdout,
        /camera\.png: frame \d+ of vivid, 640x360 RGB3\n {2}in video0 \d\.0, \d+ bytes of ion_dma_heap\n/,
      );
      assert.deepEqual(barsOf(file, 350), BARS);
    });
  });

  it('worker-filter writes its negative', async () => {
    await leavesNoPage(async () => {
      const file = join(folder, 'negative.png');
      const { stdout } = await example('worker-filter', file);
      assert.match(stdout, /the negative of 320x180 RGB3, by a thread\n10 frames, \d+ dropped\n/);
      assert.deepEqual(barsOf(file, 175), BARS.map(negative));
    });
  });

  it('camera-loopback gets back what it has sent, without a copy', async () => {
    await leavesNoPage(async () => {
      const file = join(folder, 'loopback.png');
      const { stdout } = await example('camera-loopback', file);
      assert.match(stdout, /video\d: 6 buffers given, \d back, by the CPU of vivid; handed on: true\n/);
      assert.match(stdout, /copies by the library: 0\n$/);
      // As the camera was told, and not as the other one would show them without a cable.
      assert.deepEqual(barsOf(file, 175), BARS.toReversed());
    });
  });

  it('two-process-pipeline has another process look at the same buffers', async () => {
    await leavesNoPage(async () => {
      const { stdout } = await example('two-process-pipeline', '8');
      // vivid's white is 191, and black 0.
      assert.match(stdout, /^8 frames in [1-4] buffers, \d+ dropped, brightest (19[01]|2\d\d)\n/);
      assert.match(stdout, /the camera's own buffers: true; copies: 0\n$/);
    });
  });
});
