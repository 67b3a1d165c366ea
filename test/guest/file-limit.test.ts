// SPDX-License-Identifier: MIT
/** What one open file may allocate: `max_bytes_per_file=` of ion_lite and cma_mem. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { CmaMem, type DmaBuf, type Heap, openHeap } from 'dmabuf';
import { describeModules, hasOwnDmaHeaps, leavesNoPage, PAGE, suiteWithParameters } from './support.ts';

const PAGES = 10;
const attribute = (device: string) => `/sys/class/misc/${device}/max_bytes_per_file`;

/** Its message says which limit it is. */
const refused = (allocate: () => unknown) =>
  assert.throws(allocate, {
    code: 'ENOMEM',
    message: new RegExp(`an open file have ${(PAGES * PAGE) / 1024} KiB of memory at most \\(max_bytes_per_file\\)`),
  });

/** All of the limit, in buffers of three pages and what is left. */
function fill(heap: Heap): DmaBuf[] {
  const buffers = [3, 3, 3, 1].map((pages) => heap.allocSync(pages * PAGE));
  refused(() => heap.allocSync(1));
  return buffers;
}

const close = (buffers: DmaBuf[]) => {
  for (const buffer of buffers) buffer.close();
};

describeModules('without a limit for each file', () => {
  it('there is nothing to read of it', () => {
    for (const device of ['exporter', 'ion', 'cma_mem']) assert(!existsSync(attribute(device)), device);
  });
});

describeModules('with max_bytes_per_file', () => {
  suiteWithParameters('ion', `max_bytes_per_file=${PAGES * PAGE}`);
  suiteWithParameters('cma_mem', `max_bytes_per_file=${PAGES * PAGE}`);

  const places: [string, () => Heap][] = [
    ['/dev/ion', () => openHeap('ion', { heap: 'ion_system_heap' })],
    ['the contiguous heap of /dev/ion', () => openHeap('ion', { heap: 'ion_system_contig_heap' })],
    ['/dev/cma_mem', () => openHeap('cma-mem')],
  ];
  // Else the kernel's own are there, which have no limits.
  if (!hasOwnDmaHeaps()) places.push(['/dev/dma_heap/system', () => openHeap('/dev/dma_heap/system')]);

  it('everybody reads how much it is', () => {
    for (const device of ['ion', 'cma_mem']) assert.equal(readFileSync(attribute(device), 'utf8'), `${PAGES * PAGE}\n`);
  });

  for (const [name, open] of places) {
    it(`an open ${name} has no more, and all of it again once it was given up`, async () => {
      await leavesNoPage(() => {
        using heap = open();
        refused(() => heap.allocSync(PAGES * PAGE + 1));
        close(fill(heap));
        close(fill(heap));
      });
    });

    it(`an open ${name} takes nothing from another one`, async () => {
      await leavesNoPage(() => {
        using one = open();
        using other = open();
        const buffers = fill(one);
        close(fill(other));
        refused(() => one.allocSync(1));
        close(buffers);
      });
    });

    it(`buffers outlive an open ${name}, whose limit is no other's`, async () => {
      await leavesNoPage(() => {
        const closed = open();
        const buffers = fill(closed);
        closed.close();
        using heap = open();
        close(fill(heap));
        close(buffers);
      });
    });
  }

  it('all heaps of an open /dev/ion count together', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('ion', { mask: 0b10001 });
      close(fill(heap));
    });
  });

  it('a region of /dev/cma_mem counts until its last dma-buf is closed', async () => {
    await leavesNoPage(() => {
      using device = CmaMem.open();
      const region = device.allocateSync(6 * PAGE);
      refused(() => device.allocateSync(5 * PAGE));
      const buffer = region.export();
      region.close();
      refused(() => device.allocateSync(5 * PAGE));
      buffer.close();
      device.allocateSync(PAGES * PAGE);
    });
  });
});
