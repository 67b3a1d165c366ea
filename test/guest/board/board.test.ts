// SPDX-License-Identifier: MIT
/** A guest whose device tree (board.dtso) describes the heaps of the MSM8x60 boards, and more regions. */
import assert from 'node:assert/strict';
import { type DmaBuf, heaps, openHeap } from 'dmabuf';
import { android40, fromGralloc, parameter, heaps as table } from 'dmabuf/boards/msm8x60';
import { heapMask } from 'dmabuf/boards/table';
import { describeHeap } from '../../heap-contract.ts';
import { opened } from '../ion.ts';
import { eventually, heapLines, leavesNoPage, load, PAGE, refuses, systemErrorOf, unload } from '../support.ts';

const MIB = 1 << 20;
const found = heaps().filter(({ kind }) => kind === 'ion');

describeHeap('ion');

describe('the heaps of a board', () => {
  it('are those of the table, and lie where the device tree says', () => {
    assert.deepEqual(
      found.map(({ id, type, name }) => ({ id, type, name })),
      table.map(({ id, type, name }) => ({ id, type, name })),
    );
    const places = heapLines().filter(({ backing }) => backing === 'carveout');
    assert.deepEqual(
      places.map(({ heap, size, base }) => [heap, Number(size), Number(base)]),
      [
        ['camera', 8 * MIB, 0x60000000],
        ['display', 8 * MIB, 0x60800000],
        ['audio', 2 * MIB, 0x78000000],
      ],
    );
  });

  it('are opened by type and by need', () => {
    assert.equal(opened({ type: 'carveout' }), 'camera');
    assert.equal(opened({ contiguous: true }), 'camera');
    assert.equal(opened({ heap: 'display', type: 'carveout' }), 'display');
    assert.equal(opened({}), 'system');
  });

  for (const { name, size = 0, id } of table.filter(({ type }) => type === 'carveout')) {
    it(`has all of ${name}, says what is left of it, and takes it back`, async () => {
      await leavesNoPage(async () => {
        using heap = openHeap('ion', { heap: id });
        const left = () => {
          const stats = heap.stats();
          return { bytes: stats.bytes, size: stats.size, largestFree: stats.largestFree };
        };
        const empty = { bytes: 0, size, largestFree: size };
        assert.deepEqual(left(), empty);
        using first = heap.allocSync(PAGE);
        assert.deepEqual(left(), { bytes: PAGE, size, largestFree: size - PAGE });
        const sentence = new RegExp(
          `heap ${name} has no piece of memory that large: of its ${size / 1024} KiB the largest that is free has ${(size - PAGE) / 1024} KiB`,
        );
        assert.throws(() => heap.allocSync(size), systemErrorOf('ENOMEM', 12, 'ioctl', '/dev/ion', sentence));
        using rest = await heap.alloc(size - PAGE);
        assert.deepEqual(left(), { bytes: size, size, largestFree: 0 });
        assert.throws(() => heap.allocSync(1), { code: 'ENOMEM', message: /has 0 KiB/ });
        first.close();
        rest.close();
        await eventually(() => assert.deepEqual(left(), empty));
        using whole = heap.allocSync(size);
        assert.equal(whole.size, heap.stats().peakBytes);
      });
    });
  }

  it('are what the usage bits of gralloc ask for, the system heap where the SF heap is full', async () => {
    await leavesNoPage(() => {
      const { mask, cached } = fromGralloc(0, android40);
      using usual = openHeap('ion', { mask });
      assert.equal(usual.name, 'display+system');
      using display = openHeap('ion', { heap: 'display' });
      using system = openHeap('ion', { heap: 'system' });
      const { bytes } = system.stats();
      const buffers: DmaBuf[] = [];
      try {
        while (system.stats().bytes === bytes) buffers.push(usual.allocSync(3 << 20, { cached }));
        assert.equal(buffers.length, 3);
        assert.equal(display.stats().bytes, 6 << 20);
      } finally {
        for (const buffer of buffers) buffer.close();
      }
      const camera = fromGralloc(0x08100000, android40);
      using uncached = openHeap('ion', { mask: camera.mask });
      assert.equal(uncached.name, 'camera');
      using _frame = uncached.allocSync(1 << 20, { cached: camera.cached });
      assert.equal(uncached.stats().bytes, 1 << 20);
    });
  });

  it('are asked for by name', () => {
    using audio = openHeap('ion', { mask: heapMask(table, 'audio', 'camera') });
    assert.deepEqual([audio.name, audio.contiguous], ['camera+audio', true]);
  });
});

describe('heaps= on a board', () => {
  before(() => unload('ion_lite'));
  after(() => load('ion_lite'));

  const entry = (number: number, name: string, what: string) =>
    new RegExp(`ion_lite: heaps=: entry ${number}, ${name}: ${what}$`);

  it('replaces the heaps of the device tree', () => {
    load('ion_lite', parameter);
    try {
      const places = heapLines().filter(({ backing }) => backing === 'carveout');
      const [camera, display, audio] = places.map(({ base }) => Number(base));
      assert(camera !== undefined && camera !== 0x60000000);
      assert.deepEqual([display, audio], [camera + 8 * MIB, camera + 16 * MIB]);
    } finally {
      unload('ion_lite');
    }
  });

  it('places a carveout in a reserved region', async () => {
    load('ion_lite', 'heaps=1:carveout:a:1M@0x61300000,2:protected:b:3M@0x61000000,3:carveout:c:2M@0x78000000');
    try {
      assert.deepEqual(
        heapLines().flatMap(({ heap, base }) => (base === '-' ? [] : [[heap, Number(base)]])),
        [
          ['a', 0x61300000],
          ['b', 0x61000000],
          ['c', 0x78000000],
        ],
      );
      await leavesNoPage(() => {
        for (const heap of ['a', 'c']) {
          using opened = openHeap('ion', { heap });
          using buffer = opened.allocSync(MIB);
          buffer.write((bytes) => assert(bytes.every((byte) => byte === 0)));
        }
      });
    } finally {
      unload('ion_lite');
    }
  });

  const outside = 'it is not inside a reserved region of the device tree';
  for (const [what, heaps, number, name, why] of [
    ['beside any region', '1:carveout:a:1M@0x50000000', 1, 'a', outside],
    ['that ends beyond its region', '1:carveout:a:1M@0x78180000', 1, 'a', outside],
    ['that begins before its region', '1:carveout:a:1M@0x5ffff000', 1, 'a', outside],
    ['over the end of one into the next', '1:carveout:a:1M@0x607ff000', 1, 'a', outside],
    ['in a region that is switched off', '1:carveout:a:1M@0x61600000', 1, 'a', outside],
    ['within a page', '1:carveout:a:1M@0x61000800', 1, 'a', 'its base is not at the start of a page'],
    ['without struct pages', '1:carveout:a:1M@0x61400000', 1, 'a', 'its region is no-map: it has no struct pages'],
    ["that is another driver's", '1:carveout:a:1M@0x61500000', 1, 'a', 'its region has a compatible: .*'],
    ["that is the kernel's own", '1:carveout:a:1M@0x62000000', 1, 'a', 'its region is reusable: .*'],
    ['twice', '0:system:s,1:carveout:a:2M@0x61000000,2:carveout:b:1M@0x61100000', 3, 'b', 'it overlaps another heap'],
  ] as [string, string, number, string, string][]) {
    it(`refuses memory ${what}`, () => refuses('ion_lite', `heaps=${heaps}`, entry(number, name, why)));
  }
});
