// SPDX-License-Identifier: MIT
/** The loop of ../guest/ion-clients.test.ts in full: large buffers as often as small ones. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPrograms } from '../guest/c/build.ts';
import { guest } from './run-guest.ts';

const ROUNDS = 1024;
const sizes = [4 << 10, 64 << 10, 1 << 20, 2 << 20];
const heaps = ['ion_dma_heap', 'ion_system_contig_heap', 'ion_system_heap'];

describe('a client of ION', () => {
  it(`has buffers of ${sizes.join(', ')} bytes ${ROUNDS} times each`, async function () {
    this.timeout(600_000);
    const share = mkdtempSync(join(tmpdir(), 'dmabuf-ion-'));
    try {
      await buildPrograms(share);
      const command = ['/share/ion-client', 'sizes', ...[ROUNDS, ...sizes].map(String)];
      const { code, stdout, stderr } = await guest(['--share', share, '--timeout', '500', '--', ...command]);
      assert.equal(code, 0, stderr);
      const lines = heaps.flatMap((heap) => sizes.map((size) => `${heap} ${size}: ${ROUNDS}\n`));
      assert.equal(`${stdout}`, lines.join(''));
    } finally {
      rmSync(share, { recursive: true });
    }
  });
});
