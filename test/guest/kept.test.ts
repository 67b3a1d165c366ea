// SPDX-License-Identifier: MIT
/** Contiguous memory of freed buffers, which is kept for the next ones of the same open file, for a second. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
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

/** As many as are kept for a file. */
const PIECES = 64;

/** Many times what a guest needs that has nothing else to do. */
const PATIENCE_MS = 60_000;

function figure(device: Device, name: string): number {
  const line = new RegExp(`^${name} +(\\d+)$`, 'm').exec(readFileSync(debugfs(`${device}/pool`), 'utf8'));
  return Number(line?.[1]);
}

const kept = (device: Device) => Number(readFileSync(`/sys/class/misc/${device}/pool_bytes`, 'utf8'));
const drain = (device: Device) => writeFileSync(debugfs(`${device}/drain`), '1');

/** Allocates a buffer, checks that it is empty, and gives it up full. */
function fill(heap: Heap, cached = true, length = LENGTH): void {
  using buffer = heap.allocSync(length, { cached });
  buffer.write((bytes) => {
    assert.equal(EMPTY.compare(bytes, 0, bytes.length, 0, bytes.length), 0);
    bytes.fill(0xa5);
  });
}

/** What is true of memory as long as it is kept: once more where some of it has gone back for its age. */
async function beforeItIsOld(device: Device, body: () => void | Promise<void>): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; ; ) {
    drain(device);
    const before = figure(device, 'expired_bytes');
    const isOld = () => figure(device, 'expired_bytes') > before;
    try {
      await body();
      if (!isOld()) return;
    } catch (error) {
      if (!isOld()) throw error;
    }
    assert(Date.now() < deadline, 'it is always too old');
  }
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
          await beforeItIsOld(device, async () => {
            fill(heap, first);
            assert.equal(kept(device), SIZE);
            await eventually(() => assert(figure(device, 'zeroed_bytes') === kept(device)));
            const before = figure(device, 'reused_bytes');
            fill(heap, second);
            assert.equal(figure(device, 'reused_bytes') - before, SIZE);
            assert.equal(kept(device), SIZE);
          });

          // Before it is zeroed, too, which begins 20 ms after it was given up: not each time on a slow machine.
          await eventually(() => {
            drain(device);
            fill(heap, first);
            const [zeroed, reused] = [figure(device, 'zeroed_bytes'), figure(device, 'reused_bytes')];
            fill(heap, second);
            assert.deepEqual([zeroed, figure(device, 'reused_bytes') - reused], [0, SIZE]);
          }, PATIENCE_MS);
        });
      });
    }

    it(`of ${name} is the next one's where it is zeroed, though there is some that was given up later`, async () => {
      await leavesNoPage(async () => {
        using heap = open();
        // The later one is to be taken before it is zeroed: not each time on a slow machine.
        await eventually(() => {
          drain(device);
          using buffer = heap.allocSync(LENGTH);
          fill(heap);
          for (const deadline = Date.now() + 1000; figure(device, 'zeroed_bytes') < SIZE; )
            assert(Date.now() < deadline, 'it is too old');
          buffer.close();
          const both = [kept(device), figure(device, 'zeroed_bytes')];
          using next = heap.allocSync(LENGTH);
          assert.deepEqual([...both, kept(device), figure(device, 'zeroed_bytes')], [2 * SIZE, SIZE, SIZE, 0]);
          assert.equal(next.size, SIZE);
        }, PATIENCE_MS);
      });
    });

    it(`of ${name} is of no use to another file, nor to a buffer of another size`, async () => {
      await leavesNoPage(async () => {
        using one = open();
        using other = open();
        await beforeItIsOld(device, () => {
          fill(one);
          const before = figure(device, 'reused_bytes');
          fill(one, true, PAGE);
          fill(other);
          assert.deepEqual([kept(device), figure(device, 'reused_bytes') - before], [2 * SIZE + PAGE, 0]);
        });
      });
    });

    it(`of ${name} is not kept in a buffer, nor when the file is closed`, async () => {
      await leavesNoPage(() =>
        beforeItIsOld(device, async () => {
          const heap = open();
          fill(heap);
          using buffer = heap.allocSync(LENGTH);
          assert.equal(kept(device), 0);
          fill(heap);
          heap.close();
          // What is being zeroed goes when it is.
          await eventually(() => assert.equal(kept(device), 0));
          buffer.close();
          assert.equal(kept(device), 0);
        }),
      );
    });

    it(`of ${name} goes back when it is drained`, async () => {
      await leavesNoPage(async () => {
        using heap = open();
        await beforeItIsOld(device, () => {
          fill(heap);
          assert.equal(kept(device), SIZE);
          drain(device);
          assert.deepEqual([kept(device), figure(device, 'zeroed_bytes'), figure(device, 'cma_bytes')], [0, 0, 0]);
        });
      });
    });

    it(`of ${name} goes back when nobody has asked for it for a second`, async () => {
      await leavesNoPage(async () => {
        using heap = open();
        drain(device);
        const [before, reused] = [figure(device, 'expired_bytes'), figure(device, 'reused_bytes')];
        for (const times of [1, 2]) {
          fill(heap);
          await eventually(() => assert.equal(kept(device), 0), PATIENCE_MS);
          assert.equal(figure(device, 'expired_bytes') - before, times * SIZE);
        }
        assert.equal(figure(device, 'reused_bytes'), reused);
      });
    });

    it(`of ${name} is kept of ${PIECES} buffers, however many there were`, async () => {
      await leavesNoPage(async () => {
        using heap = open();
        await beforeItIsOld(device, async () => {
          const buffers = Array.from({ length: PIECES + 8 }, () => heap.allocSync(PAGE));
          for (const buffer of buffers) buffer.close();
          assert.equal(kept(device), PIECES * PAGE);
        });
      });
    });
  }

  it('of a region of /dev/cma_mem is that of the next one', async () => {
    await leavesNoPage(async () => {
      using device = CmaMem.open();
      await beforeItIsOld('cma_mem', () => {
        device.allocateSync(LENGTH).close();
        assert.equal(kept('cma_mem'), SIZE);
        const before = figure('cma_mem', 'reused_bytes');
        device.allocateSync(LENGTH).close();
        assert.equal(figure('cma_mem', 'reused_bytes') - before, SIZE);
      });
    });
  });

  it("is nobody's where a page of it has failed", async function () {
    const offline = '/sys/devices/system/memory/hard_offline_page';
    skipWithout(existsSync(offline) ? undefined : 'this kernel knows nothing of failing memory', this);
    await leavesNoPage(async () => {
      using device = CmaMem.open();
      await beforeItIsOld('cma_mem', async () => {
        const region = device.allocateSync(LENGTH);
        const failed = region.physicalBase + PAGE;
        region.close();
        // It refuses, for the page is in use, and marks it all the same.
        assert.throws(() => writeFileSync(offline, `${failed}`), /EBUSY|EIO/);
        const before = figure('cma_mem', 'reused_bytes');
        using other = device.allocateSync(LENGTH);
        assert.equal(figure('cma_mem', 'reused_bytes'), before);
        assert(failed < other.physicalBase || failed >= other.physicalBase + SIZE);
        // Nor is it kept where it fails in a buffer.
        const last = other.physicalBase + SIZE - PAGE;
        assert.throws(() => writeFileSync(offline, `${last}`), /EBUSY|EIO/);
        other.close();
        assert.equal(kept('cma_mem'), 0);
      });
    });
  });

  it('goes back when the kernel wants it, but for CMA, which only some can use', async () => {
    await leavesNoPage(async () => {
      using heap = openHeap('ion', { heap: 'ion_system_contig_heap' });
      using other = openHeap('ion', { heap: 'ion_dma_heap' });
      await beforeItIsOld('ion', async () => {
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
  });

  it('makes room for what the file gave up last', async () => {
    await withParameters('cma_mem', [`pool_max=${10 * PAGE}`], async () => {
      await leavesNoPage(async () => {
        using heap = openHeap('cma-mem');
        using other = openHeap('cma-mem');
        await beforeItIsOld('cma_mem', async () => {
          const zeroed = () => eventually(() => assert.equal(figure('cma_mem', 'zeroed_bytes'), kept('cma_mem')));
          fill(heap, true, 6 * PAGE);
          // What is being zeroed makes no room.
          await zeroed();
          fill(heap, true, 5 * PAGE);
          assert.equal(kept('cma_mem'), 5 * PAGE);
          fill(heap, true, 3 * PAGE);
          assert.equal(kept('cma_mem'), 8 * PAGE);
          fill(heap, true, 11 * PAGE);
          assert.equal(kept('cma_mem'), 8 * PAGE);
          // Not at the cost of another.
          fill(other, true, 3 * PAGE);
          assert.equal(kept('cma_mem'), 8 * PAGE);
        });
      });
    });
  });

  it('is not kept with pool_max=0, nor with mem_accounting=1', async () => {
    await withParameters('cma_mem', ['pool_max=0'], async () => {
      await leavesNoPage(() => {
        using heap = openHeap('cma-mem');
        fill(heap);
        fill(heap);
        assert.throws(() => kept('cma_mem'), { code: 'ENOENT' });
      });
    });
    await withParameters('ion', ['mem_accounting=1'], async () => {
      await leavesNoPage(() => {
        using heap = openHeap('ion', { heap: 'ion_system_contig_heap' });
        fill(heap);
        fill(heap);
        assert(!existsSync('/sys/class/misc/ion/pool_bytes'));
      });
    });
  });

  it('counts for no limit', async () => {
    await withParameters('cma_mem', [`max_bytes=${SIZE}`, `max_bytes_per_file=${SIZE}`], async () => {
      await leavesNoPage(async () => {
        using heap = openHeap('cma-mem');
        await beforeItIsOld('cma_mem', () => {
          fill(heap);
          assert.equal(kept('cma_mem'), SIZE);
          // Of another size, so that it is not the same memory.
          using buffer = heap.allocSync(SIZE - PAGE);
          assert.deepEqual([kept('cma_mem'), buffer.size], [SIZE, SIZE - PAGE]);
        });
      });
    });
  });

  describe('and nearly all of CMA', () => {
    suiteWithParameters('ion', `pool_max=${1024 * MIB}`);
    suiteWithParameters('cma_mem', `pool_max=${1024 * MIB}`);

    /** More than one block of the page allocator. */
    const most = () => Math.floor((cmaMemory().total * 3) / 4 / PAGE) * PAGE;

    before(function () {
      skipWithout(cmaMemory().total > 0 ? undefined : 'this kernel has no CMA', this);
    });

    it('is given up before anybody hears that there is none', async () => {
      const size = most();
      await leavesNoPage(async () => {
        using mine = openHeap('ion', { heap: 'ion_dma_heap' });
        using others = openHeap('cma-mem');
        await beforeItIsOld('ion', async () => {
          mine.allocSync(size).close();
          assert.deepEqual([kept('ion'), figure('ion', 'cma_bytes')], [size, size]);
          await beforeItIsOld('cma_mem', () => {
            others.allocSync(size).close();
            assert.deepEqual([kept('ion'), kept('cma_mem')], [0, size]);
          });
          mine.allocSync(size).close();
          assert.deepEqual([kept('ion'), kept('cma_mem')], [size, 0]);
        });
      });
    });

    it('is waited for where the file is closed while it is zeroed', async () => {
      const size = most();
      await leavesNoPage(async () => {
        // Zeroing begins after 20 ms.
        for (let ms = 20; ms <= 60; ms += 10) {
          const heap = openHeap('ion', { heap: 'ion_dma_heap' });
          heap.allocSync(size).close();
          await sleep(ms);
          heap.close();
          using others = openHeap('cma-mem');
          others.allocSync(size).close();
        }
      });
    });

    it('is given up for other drivers when nobody has asked for it for a second', async () => {
      const size = most();
      await leavesNoPage(async () => {
        using heap = openHeap('ion', { heap: 'ion_dma_heap' });
        const before = figure('ion', 'expired_bytes');
        const buffer = heap.allocSync(size);
        const { free } = cmaMemory();
        buffer.close();
        await eventually(() => {
          assert.equal(figure('ion', 'cma_bytes'), 0);
          // The kernel puts what it can move there, too.
          assert(cmaMemory().free >= free + size / 2, `${cmaMemory().free}, ${free} before`);
        }, PATIENCE_MS);
        assert.equal(figure('ion', 'expired_bytes') - before, size);
      });
    });
  });
});
