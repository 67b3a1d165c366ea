// SPDX-License-Identifier: MIT
/** A file of /dev/cma_mem that has used up the offsets mmap has for it: 4 GiB of memory are zeroed until then. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPrograms } from '../guest/c/build.ts';
import { guest } from './run-guest.ts';

describe('4 GiB of offsets', () => {
  it('last for as many regions as come and go: new ones find a place in gaps that are large enough', async function () {
    this.timeout(600_000);
    const share = mkdtempSync(join(tmpdir(), 'dmabuf-offsets-'));
    try {
      await buildPrograms(share);
      const command = ['/share/cma-regions', 'roll', String(4 << 20)];
      const { code, stdout, stderr } = await guest(['--share', share, '--timeout', '500', '--', ...command]);
      assert.equal(code, 0, stderr);
      const { allocated, staying, inGaps } = JSON.parse(`${stdout}`);
      assert(allocated > 1000 && staying > 8 && inGaps > 2, `${stdout}`);
    } finally {
      rmSync(share, { recursive: true });
    }
  });
});
