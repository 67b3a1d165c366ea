// SPDX-License-Identifier: MIT
/** The loops of ../guest/cma-regions.test.ts in full, and a file that has used up the offsets mmap has for it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPrograms } from '../guest/c/build.ts';
import { guest } from './run-guest.ts';

const ROUNDS = 100_000;
/** As large a piece as the page allocator has: 4 GiB are allocated, and zeroed, until all offsets were used. */
const PIECE = 4 << 20;

describe('regions of cma_mem', () => {
  it(`are allocated and given up ${ROUNDS} times, and find a place in gaps where offsets are used up`, async function () {
    this.timeout(900_000);
    const share = mkdtempSync(join(tmpdir(), 'dmabuf-regions-'));
    try {
      await buildPrograms(share);
      const script = `/share/cma-regions churn ${ROUNDS}; /share/cma-regions roll ${PIECE}; cat /sys/class/misc/cma_mem/bytes`;
      const { code, stdout, stderr } = await guest(['--share', share, '--timeout', '800', '--', 'sh', '-ec', script]);
      assert.equal(code, 0, stderr);
      const [churned = '', rolled = '', left] = `${stdout}`.split('\n');
      assert.deepEqual(JSON.parse(churned), { allocated: ROUNDS });
      const { allocated, staying, inGaps } = JSON.parse(rolled);
      assert(allocated > 1000 && staying > 8 && inGaps > 2, rolled);
      assert.equal(left, '0');
    } finally {
      rmSync(share, { recursive: true });
    }
  });
});
