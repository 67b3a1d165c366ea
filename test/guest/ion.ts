// SPDX-License-Identifier: MIT
/** What the tests of the devices of ion_lite share: /dev/ion, and its dma-heaps. */
import assert from 'node:assert/strict';
import { type OpenHeapOptions, openHeap } from 'dmabuf';
import { ION_IOC_ALLOC, type IonAllocation, ionAllocation, ionFd } from './abi.ts';
import { counters, idleCounters, PAGE } from './support.ts';
import { O_RDONLY, Syscalls } from './syscalls.ts';

/** Name, type and id of each heap of the default table, in the order in which they are tried. */
export const heapTable = [
  { name: 'ion_dma_heap', type: 4, id: 4 },
  { name: 'ion_system_contig_heap', type: 1, id: 1 },
  { name: 'ion_system_heap', type: 0, id: 0 },
];

export const heapMasks = heapTable.map(({ id }) => 1 << id);

/** What each carveout of {@link everyHeap} has: a block of the page allocator's at most, where there is no CMA. */
const CARVEOUT = Math.max(2 << 20, 256 * PAGE);

/** A heap of each type, as heaps() would list it; neither its type nor its place is its id. */
export const everyHeap = (
  [
    ['carveout', 2, 4],
    ['system', 0, 7],
    ['protected', 7, 0],
    ['dma', 4, 2],
    ['system_contig', 1, 6],
    ['iommu', 6, 1],
  ] as const
).map(([word, type, id]) => ({
  ...{ kind: 'ion' as const, path: '/dev/ion', name: `the_${word}`, word, type, id, dma: true, uncached: true },
  contiguous: word !== 'system' && word !== 'iommu',
  protected: word === 'protected',
}));

/** The parameter of ion_lite that makes them. */
export const everyHeapTable = `heaps=${everyHeap
  .map(
    ({ id, word, name }) => `${id}:${word}:${name}${word === 'carveout' || word === 'protected' ? `:${CARVEOUT}` : ''}`,
  )
  .join(',')}`;

/** Name of the heap that is opened. */
export function opened(options: OpenHeapOptions): string {
  using heap = openHeap('ion', options);
  return heap.name;
}

/** A test with a device open. */
export type DeviceTest = (process: Syscalls, device: number) => Promise<void>;

/** Runs a test with a device of ion_lite open, and checks that it leaves neither a descriptor nor a page. */
export async function withDevice(context: Mocha.Context, path: string, body: DeviceTest): Promise<void> {
  await using process = await Syscalls.start(context);
  const device = await process.must('open', path, O_RDONLY);
  const { fds } = process;
  await body(process, device);
  assert.equal(process.fds, fds);
  assert.deepEqual(counters('ion'), idleCounters.ion);
}

/** A buffer of /dev/ion: its descriptor. */
export async function alloc(process: Syscalls, ion: number, allocation: IonAllocation): Promise<number> {
  const { code, bytes } = await process.call('ioctl', ion, ION_IOC_ALLOC, ionAllocation(allocation));
  assert.equal(code, '');
  return ionFd(bytes);
}
