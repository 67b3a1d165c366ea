// SPDX-License-Identifier: MIT
/** /dev/cma_mem in a guest whose device tree (board.dtso) sets memory aside for it. */
import assert from 'node:assert/strict';
import { CmaMem, openHeap, type Region } from 'dmabuf';
import { heapLines, leavesNoPage, PAGE, systemErrorOf, withParameters } from '../support.ts';

const BASE = 0x64000000;
const SIZE = 0x400000;

describe("cma_mem's memory on a board", () => {
  it('lies where the device tree says, all of it, and nothing else is handed out', async () => {
    const [line, ...more] = heapLines('cma_mem');
    assert.deepEqual([line?.backing, Number(line?.size), Number(line?.base), more.length], ['carveout', SIZE, BASE, 0]);
    await leavesNoPage(async () => {
      using cma = CmaMem.open();
      assert.deepEqual(cma.totals(), { total: SIZE, free: SIZE });
      const regions: Region[] = [];
      for (let left = SIZE; left > 0; left -= SIZE / 8) regions.push(await cma.allocate(SIZE / 8));
      assert.deepEqual(cma.totals(), { total: SIZE, free: 0 });
      assert.deepEqual(
        regions.map(({ physicalBase }) => physicalBase).sort((a, b) => a - b),
        regions.map((_, index) => BASE + (index * SIZE) / 8),
      );
      for (const [index, region] of regions.entries()) {
        using mapping = region.map();
        const words = new Uint32Array(mapping.buffer);
        assert(words.every((word) => word === 0));
        words.fill(index + 1);
      }
      const none =
        /heap cma_mem has no piece of memory that large: of its 4096 KiB the largest that is free has 0 KiB.*give it more in the device tree\.$/;
      const refused = systemErrorOf('ENOMEM', 12, 'ioctl', '/dev/cma_mem', none);
      assert.throws(() => cma.allocateSync(PAGE), refused);
      using heap = openHeap('cma-mem');
      assert.throws(() => heap.allocSync(PAGE), refused);
      regions.pop()?.close();
      using buffer = heap.allocSync(SIZE / 8);
      assert(buffer.read((bytes) => bytes.every((byte) => byte === 0)));
      const { size, largestFree } = heap.stats();
      assert.deepEqual({ size, largestFree }, { size: SIZE, largestFree: 0 });
    });
  });

  it('is no more than max_bytes= says', () =>
    withParameters('cma_mem', [`max_bytes=${3 * PAGE}`], () =>
      leavesNoPage(() => {
        using cma = CmaMem.open();
        assert.deepEqual(cma.totals(), { total: 3 * PAGE, free: 3 * PAGE });
        const most = new RegExp(`hands out ${(3 * PAGE) / 1024} KiB of memory at most \\(max_bytes\\)`);
        assert.throws(() => cma.allocateSync(4 * PAGE), { code: 'ENOMEM', message: most });
      }),
    ));

  it('is left alone with region=N', () =>
    withParameters('cma_mem', ['region=N'], () => {
      assert.deepEqual(
        heapLines('cma_mem').map(({ backing, base }) => [backing, base]),
        [['contiguous', '-']],
      );
    }));
});
