// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { allCounters, describeModules, eventually, idleCounters, program, skipWithout } from './support.ts';

describeModules('a dma-buf held by its path alone', () => {
  for (const device of ['exporter', 'cma_mem']) {
    it(`does not make ${device} give out a stranger's file`, async function () {
      const { path, missing } = program('o-path');
      skipWithout(missing, this);
      const lines = execFileSync(path, [device], { encoding: 'utf8' }).trim().split('\n');
      assert.equal(lines.length, 5);
      for (const line of lines) assert.match(line, /^\/dmabuf:/);
      await eventually(() => assert.deepEqual(allCounters(), idleCounters));
    });
  }
});
