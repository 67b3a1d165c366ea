// SPDX-License-Identifier: MIT
/** What the tests of the devices of ion_lite share: /dev/ion, and its dma-heaps. */
import assert from 'node:assert/strict';
import { ION_IOC_ALLOC, type IonAllocation, ionAllocation, ionFd } from './abi.ts';
import { counters, idleCounters } from './support.ts';
import { O_RDONLY, Syscalls } from './syscalls.ts';

/** Name, type and id of each heap of the default table, in the order in which they are tried. */
export const heapTable = [
  { name: 'ion_dma_heap', type: 4, id: 4 },
  { name: 'ion_system_contig_heap', type: 1, id: 1 },
  { name: 'ion_system_heap', type: 0, id: 0 },
];

export const heapMasks = heapTable.map(({ id }) => 1 << id);

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
