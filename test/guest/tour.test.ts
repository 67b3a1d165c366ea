// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describeModules, leavesNoPage, without } from './support.ts';

const run = promisify(execFile);

describeModules('the tour', () => {
  it('goes through every step, and leaves its picture', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'dmabuf-tour-'));
    await leavesNoPage(async () => {
      const { stdout } = await run(process.execPath, ['examples/tour.ts', directory]);
      assert.match(stdout, /sees 0x11, 0x22, 0x11/);
      assert.match(stdout, new RegExp(`^ +picture +${directory}/tour.png$`, 'm'));
    });
    const picture = await readFile(join(directory, 'tour.png'));
    assert.equal(picture.toString('latin1', 1, 4), 'PNG');
    await rm(directory, { recursive: true });
  });

  it('says which device is missing, and how to get it', async () => {
    await without('ion', async () => {
      await assert.rejects(
        run(process.execPath, ['examples/tour.ts']),
        ({ code, stderr }: { code: number; stderr: string }) => {
          assert.equal(code, 1);
          assert.match(
            stderr,
            /^tour: This machine lacks \/dev\/ion \(module ion_lite\)\. Boot a guest.*scripts\/guest/,
          );
          return true;
        },
      );
    });
  });
});
