// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { openHeap } from 'dmabuf';
import { addressSpace } from '../support.ts';
import { describeModules, leavesNoPage } from './support.ts';

/** A 32-bit process has room for 768 of them; DMABUF_ROUNDS says how many more than that. */
const { DMABUF_ROUNDS = '1000' } = process.env;
const rounds = Number(DMABUF_ROUNDS);
const SIZE = 4 << 20;

describeModules(`${rounds.toLocaleString('en')} mappings of 4 MiB, opened and closed`, () => {
  it('never run out of address space, in one turn of the loop', async function () {
    this.timeout(Math.max(this.timeout(), 600_000, 20 * rounds));
    this.slow(60_000);
    await leavesNoPage(() => {
      using heap = openHeap('ion', { type: 'system' });
      using buffer = heap.allocSync(SIZE);
      const before = addressSpace();
      let most = 0;
      for (let round = 0; round < rounds; round++) {
        using mapping = buffer.map();
        new Uint8Array(mapping.buffer, (round * 4096) % SIZE, 1)[0] = round;
        if (round % 100 === 0) most = Math.max(most, addressSpace() - before);
      }
      if (process.arch === 'arm') assert(most < 1 << 20, `${most} KiB of 3 GiB of address space were in use`);
    });
  });
});
