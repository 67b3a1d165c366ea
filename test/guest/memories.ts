// SPDX-License-Identifier: MIT
/** The memory there is for devices, for tests of what imports it; /dev/ion has the table of ./ion.ts. */
import { type DmaBuf, type HeapInfo, heaps, openHeap } from 'dmabuf';
import { everyHeap } from './ion.ts';

export type Memory = Pick<HeapInfo, 'kind' | 'name' | 'contiguous' | 'protected'> & { cached: boolean };

/** That of each heap, of ION one of each type, cached and not. */
export const memories: Memory[] = [
  ...everyHeap,
  ...heaps().filter(({ dma, kind, error }) => dma && kind !== 'ion' && error === undefined),
].flatMap((info) => (info.uncached ? [true, false] : [true]).map((cached) => ({ ...info, cached })));

/** How a title calls it. */
export const called = ({ name, cached }: Memory) => `${name}, ${cached ? '' : 'not '}cached`;

export function allocate({ kind, name, cached }: Memory, length: number): DmaBuf {
  using heap = openHeap(kind, { heap: name });
  return heap.allocSync(length, { cached });
}

/** A buffer with these bytes. */
export function filled(memory: Memory, contents: Uint8Array): DmaBuf {
  const buffer = allocate(memory, contents.length);
  buffer.write((bytes) => bytes.set(contents));
  return buffer;
}

/** A buffer with these bytes in scattered pages. */
export const scattered = (contents: Uint8Array) =>
  filled({ kind: 'ion', name: 'the_system', contiguous: false, protected: false, cached: true }, contents);
