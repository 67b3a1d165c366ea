// SPDX-License-Identifier: MIT
/** Which of several heaps is meant. @module */
import { constants as osConstants } from 'node:os';
import { type SystemError, systemError } from '../errors.js';

/**
 * What memory a heap of ION hands out, in the words of ion_lite's parameter `heaps=`:
 *
 * - `system`: scattered pages
 * - `system_contig`: one block of the page allocator
 * - `carveout`: contiguous, from memory that was set aside when the table was made
 * - `dma`: contiguous, from CMA where there is one
 * - `iommu`: scattered pages, meant for devices behind an IOMMU
 * - `protected`: contiguous, for devices only, see {@link HeapTraits.protected}
 * - `chunk`, `custom`: of Android's kernels
 */
export type IonHeapType = 'system' | 'system_contig' | 'carveout' | 'chunk' | 'dma' | 'custom' | 'iommu' | 'protected';

/** What is known of a heap before anything is allocated from it. */
export interface HeapTraits {
  /** the heap's own name, such as `'ion_system_heap'` */
  name: string;
  /** whether a buffer is one piece of physical memory */
  contiguous: boolean;
  /**
   * whether only devices may use the buffers: mapping, reading and writing fail with EPERM. Of several heaps:
   * whether one of them is so, and a buffer may be
   */
  protected: boolean;
  /**
   * whether `cached: false` can be asked for. On x86, where caches see what devices do, such memory is cached all
   * the same
   */
  uncached: boolean;
  /** a heap of ION has one: its bit in a mask */
  id?: number;
  /** of a heap of ION, where it is one of those */
  type?: IonHeapType;
}

/**
 * By what one of several heaps is chosen: one of which all that is given is true. It is so before any length is
 * known, and stays the only one, however full it is.
 */
export interface HeapChoice {
  /**
   * For `ion` the name or id of one of its heaps, for `dma-heap` the name of its device, for
   * the others the name {@link heaps} shows.
   */
  heap?: string | number;
  /** For `ion`: what memory it hands out. */
  type?: IonHeapType;
  /** Whether buffers must be, or must not be, one piece of physical memory. */
  contiguous?: boolean;
  /**
   * Whether the CPU is to be kept from the buffers. Default: false, except for a heap that is
   * asked for by name, id or type.
   */
  protected?: boolean;
  /**
   * false: the heap must be {@link HeapTraits.uncached}; {@link Heap.alloc} is asked for each buffer. true changes
   * nothing: every heap has cached memory.
   */
  cached?: boolean;
}

function fits(heap: HeapTraits, { heap: wanted, type, contiguous, protected: secured, cached }: HeapChoice): boolean {
  const meant = wanted !== undefined || type !== undefined;
  return (
    (wanted === undefined || wanted === heap.name || wanted === heap.id) &&
    (type === undefined || type === heap.type) &&
    (contiguous === undefined || contiguous === heap.contiguous) &&
    (secured === undefined ? meant || !heap.protected : secured === heap.protected) &&
    (cached !== false || heap.uncached)
  );
}

/** The heap to open: of those that fit the usual one, or else the first. @internal */
export function choose<T extends HeapTraits>(
  heaps: readonly T[],
  choice: HeapChoice,
  usual: (heap: T) => boolean = () => false,
): T | undefined {
  const fitting = heaps.filter((heap) => fits(heap, choice));
  return fitting.find(usual) ?? fitting[0];
}

/** What ION_IOC_ALLOC takes for these heaps. @internal */
export function maskOf(heaps: readonly { readonly id: number }[]): number {
  return heaps.reduce((mask, { id }) => (mask | (1 << id)) >>> 0, 0);
}

/** A choice in words, as they follow "There is no heap". @internal */
export function inWords({ heap, type, ...needs }: HeapChoice): string {
  const asked = Object.entries(needs).filter(([, value]) => value !== undefined);
  const words = [
    ...(heap === undefined ? [] : [JSON.stringify(heap)]),
    ...(type === undefined ? [] : [`of type ${type}`]),
    ...(asked.length === 0 ? [] : [`with ${asked.map(([name, value]) => `${name}: ${value}`).join(' and ')}`]),
  ];
  return words.join(' ') || 'that is not protected';
}

/** ENODEV, with the heaps there are. @internal */
export function noSuchHeap(
  syscall: string,
  path: string,
  wanted: string,
  heaps: readonly Pick<HeapTraits, 'name' | 'type' | 'id'>[],
): SystemError {
  const names = heaps.map(({ name, type, id }) =>
    [...(type === undefined ? [] : [type]), name, ...(id === undefined ? [] : [`(${id})`])].join(' '),
  );
  const list = names.length === 1 ? `only heap is ${names[0]}` : `heaps are: ${names.join(', ') || 'none'}`;
  return systemError(-osConstants.errno.ENODEV, syscall, path, `There is no heap ${wanted} there; its ${list}.`);
}
