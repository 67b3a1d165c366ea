// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describeModules, without } from './support.ts';

const run = promisify(execFile);

describeModules('the tour', function () {
  this.timeout(60_000);

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
