// SPDX-License-Identifier: MIT
/** Contiguous memory of freed buffers, which is kept for the next ones of the same open file. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { CmaMem, type Heap, openHeap } from 'dmabuf';
import {
  cmaMemory,
  type Device,
  debugfs,
  describeModules,
  eventually,
  hasOwnDmaHeaps,
  leavesNoPage,
  PAGE,
  skipWithout,
  suiteWithParameters,
  withParameters,
} from './support.ts';

const LENGTH = 16 * PAGE + 1;
const SIZE = 17 * PAGE;
const MIB = 2 ** 20;
const EMPTY = Buffer.alloc(SIZE);

function figure(device: Device, name: string): number {
  const line = new RegExp(`^${name} +(\\d+)$`, 'm').exec(readFileSync(debugfs(`${device}/pool`), 'utf8'));
  return Number(line?.[1]);
}

const kept = (device: Device) => Number(readFileSync(`/sys/class/misc/${device}/pool_bytes`, 'utf8'));

/** Allocates a buffer, checks that it is empty, and gives it up full. */
function fill(heap: Heap, cached = true, length = LENGTH): void {
  using buffer = heap.allocSync(length, { cached });
  buffer.write((bytes) => {
    assert.equal(EMPTY.compare(bytes, 0, bytes.length, 0, bytes.length), 0);
    bytes.fill(0xa5);
  });
}

const places: [string, Device, boolean, () => Heap][] = [
  ['the DMA heap of /dev/ion', 'ion', true, () => openHeap('ion', { heap: 'ion_dma_heap' })],
  ['the contiguous heap of /dev/ion', 'ion', true, () => openHeap('ion', { heap: 'ion_system_contig_heap' })],
  ['/dev/cma_mem', 'cma_mem', true, () => openHeap('cma-mem')],
];
// Else the kernel's own are there, which keep nothing.
if (!hasOwnDmaHeaps()) {
  places.push(['/dev/dma_heap/reserved', 'ion', false, () => openHeap('/dev/dma_heap/reserved')]);
}

describeModules('contiguous memory of a freed buffer', () => {
  beforeEach(() => {
    for (const device of ['ion', 'cma_mem']) writeFileSync(debugfs(`${device}/drain`), '1');
  });

  for (const [name, device, uncached, open] of places) {
    for (const [first, second] of uncached
      ? [
          [true, true],
          [true, false],
          [false, true],
        ]
      : [[true, true]]) {
      const called = (cached?: boolean) => `${cached ? '' : 'not '}cached`;
      it(`of ${name}, ${called(first)}, is the next one's, ${called(second)}, without its bytes`, async () => {
        await leavesNoPage(async () => {
          using heap = open();
          fill(heap, first);
          assert.equal(kept(device), SIZE);
          await eventually(() => assert.equal(figure(device, 'zeroed_bytes'), SIZE));
          const before = figure(device, 'reused_bytes');
          fill(heap, second);
          assert.equal(figure(device, 'reused_bytes') - before, SIZE);

          // Before it is zeroed, too, which begins 20 ms after it was given up: not each time on a slow machine.
          await eventually(() => {
            fill(heap, first);
            const [zeroed, reused] = [figure(device, 'zeroed_bytes'), figure(device, 'reused_bytes')];
            fill(heap, second);
            assert.deepEqual([zeroed, figure(device, 'reused_bytes') - reused], [0, SIZE]);
          });
          assert.equal(kept(device), SIZE);
        });
      });
    }

    it(`of ${name} is of no use to another file, nor to a buffer of another size`, async () => {
      await leavesNoPage(() => {
        using one = open();
        using other = open();
        fill(one);
        const before = figure(device, 'reused_bytes');
        fill(one, true, PAGE);
        using buffer = other.allocSync(LENGTH);
        assert.deepEqual([kept(device), figure(device, 'reused_bytes') - before], [SIZE + PAGE, 0]);
        assert.equal(buffer.size, SIZE);
      });
    });

    it(`of ${name} is not kept in a buffer, nor when the file is closed`, async () => {
      await leavesNoPage(async () => {
        const heap = open();
        fill(heap);
        const buffer = heap.allocSync(LENGTH);
        assert.equal(kept(device), 0);
        fill(heap);
        heap.close();
        // What is being zeroed goes when it is.
        await eventually(() => assert.equal(kept(device), 0));
        buffer.close();
        assert.equal(kept(device), 0);
      });
    });

    it(`of ${name} goes back when it is drained`, async () => {
      await leavesNoPage(() => {
        using heap = open();
        fill(heap);
        writeFileSync(debugfs(`${device}/drain`), '1');
        assert.deepEqual([kept(device), figure(device, 'zeroed_bytes'), figure(device, 'cma_bytes')], [0, 0, 0]);
      });
    });
  }

  it('of a region of /dev/cma_mem is that of the next one', async () => {
    await leavesNoPage(() => {
      using device = CmaMem.open();
      device.allocateSync(LENGTH).close();
      assert.equal(kept('cma_mem'), SIZE);
      const before = figure('cma_mem', 'reused_bytes');
      device.allocateSync(LENGTH).close();
      assert.equal(figure('cma_mem', 'reused_bytes') - before, SIZE);
    });
  });

  it('goes back when the kernel wants it, but for CMA, which only some can use', async () => {
    await leavesNoPage(async () => {
      using heap = openHeap('ion', { heap: 'ion_system_contig_heap' });
      using other = openHeap('ion', { heap: 'ion_dma_heap' });
      fill(heap);
      fill(other);
      const ofCma = figure('ion', 'cma_bytes');
      assert.equal(ofCma, cmaMemory().total > 0 ? SIZE : 0);
      const before = figure('ion', 'reclaimed_bytes');
      await eventually(() => {
        writeFileSync('/proc/sys/vm/drop_caches', '2');
        assert.equal(kept('ion'), ofCma);
      });
      assert(figure('ion', 'reclaimed_bytes') > before);
    });
  });

  it('makes room for what the file gave up last', async () => {
    await withParameters('cma_mem', [`pool_max=${10 * PAGE}`], async () => {
      await leavesNoPage(() => {
        using heap = openHeap('cma-mem');
        fill(heap, true, 6 * PAGE);
        fill(heap, true, 5 * PAGE);
        assert.equal(kept('cma_mem'), 5 * PAGE);
        fill(heap, true, 3 * PAGE);
        assert.equal(kept('cma_mem'), 8 * PAGE);
        fill(heap, true, 11 * PAGE);
        assert.equal(kept('cma_mem'), 8 * PAGE);
        // Not at the cost of another.
        using other = openHeap('cma-mem');
        fill(other, true, 3 * PAGE);
        assert.equal(kept('cma_mem'), 8 * PAGE);
      });
    });
  });

  it('is not kept with pool_max=0', async () => {
    await withParameters('cma_mem', ['pool_max=0'], async () => {
      await leavesNoPage(() => {
        using heap = openHeap('cma-mem');
        fill(heap);
        fill(heap);
        assert.throws(() => kept('cma_mem'), { code: 'ENOENT' });
      });
    });
  });

  describe('and nearly all of CMA', () => {
    suiteWithParameters('ion', `pool_max=${1024 * MIB}`);
    suiteWithParameters('cma_mem', `pool_max=${1024 * MIB}`);

    it('is given up before anybody hears that there is none', async function () {
      const { total } = cmaMemory();
      skipWithout(total > 0 ? undefined : 'this kernel has no CMA', this);
      // More than one block of the page allocator.
      const size = Math.floor((total * 3) / 4 / PAGE) * PAGE;
      await leavesNoPage(() => {
        using mine = openHeap('ion', { heap: 'ion_dma_heap' });
        using others = openHeap('cma-mem');
        mine.allocSync(size).close();
        assert.deepEqual([kept('ion'), figure('ion', 'cma_bytes')], [size, size]);
        others.allocSync(size).close();
        assert.deepEqual([kept('ion'), kept('cma_mem')], [0, size]);
        mine.allocSync(size).close();
        assert.deepEqual([kept('ion'), kept('cma_mem')], [size, 0]);
      });
    });
  });
});
