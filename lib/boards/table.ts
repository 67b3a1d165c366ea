// SPDX-License-Identifier: MIT
/** Tables of heaps: what a board has, said to ion_lite, to {@link openHeap} and to gralloc's users. @module */
import { checkInteger } from '../arguments.js';
import { invalidValue } from '../errors.js';
import type { IonHeapType } from '../heap/choice.js';

/** One heap of a board. */
export interface BoardHeap {
  /** from 0 to 31: its bit in a mask */
  readonly id: number;
  readonly type: Exclude<IonHeapType, 'chunk' | 'custom'>;
  readonly name: string;
  /** bytes, of a heap that has memory of its own */
  readonly size?: number;
  /** physical address of that memory; default: the kernel finds some */
  readonly base?: number;
}

/** The heaps of a board, in the order in which those of a mask are tried. */
export type BoardTable = readonly BoardHeap[];

/** What the bits of gralloc's usage mean in one release of a board's Android. */
export interface GrallocUsage {
  /** the bit that asks for a heap, by the heap's name; of heaps the board lacks, too */
  readonly heaps: Readonly<Record<string, number>>;
  /** the heaps of a usage that asks for none */
  readonly usual: readonly string[];
  /** asks for memory that is not cached */
  readonly uncached: number;
  /** heaps for which that does not count */
  readonly alwaysCached: readonly string[];
  /** asks for memory the CPU cannot see */
  readonly secure: number;
}

/** A name ion_lite takes. */
const NAME = /^[\w.-]{1,31}$/;

/**
 * The parameter of ion_lite that makes these heaps, such as `heaps=0:system:ion_system_heap`:
 * `modprobe ion_lite heaps=…`, or `scripts/guest --module "ion_lite heaps=…"`.
 *
 * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_VALUE: a table that cannot be said so
 */
export function heapsParameter(table: BoardTable): string {
  const heaps = table.map(({ id, type, name, size, base }, index) => {
    checkInteger(id, 'id', 0, 31);
    if (!NAME.test(name)) throw invalidValue('name', `must be 1 to 31 letters, digits, _, - and . Received '${name}'`);
    if (table.findIndex((other) => other.id === id || other.name === name) !== index) {
      throw invalidValue('table', `has the id ${id} or the name ${name} twice`);
    }
    if (size !== undefined) checkInteger(size, 'size', 1, Number.MAX_SAFE_INTEGER);
    if (base === undefined) return [id, type, name, ...(size === undefined ? [] : [size])].join(':');
    checkInteger(base, 'base', 0, Number.MAX_SAFE_INTEGER);
    if (size === undefined) throw invalidValue('base', `of the heap ${name} needs a size`);
    return `${id}:${type}:${name}:${size}@0x${base.toString(16)}`;
  });
  return `heaps=${heaps.join(',')}`;
}

function named(table: BoardTable, names: readonly string[]): BoardHeap[] {
  const absent = names.filter((name) => !table.some((heap) => heap.name === name));
  if (absent.length > 0) {
    const there = table.map(({ name }) => name).join(', ') || 'none';
    throw invalidValue('table', `has no heap ${absent.join(', ')}; its heaps are: ${there}`);
  }
  return table.filter(({ name }) => names.includes(name));
}

function maskOf(heaps: readonly BoardHeap[]): number {
  return heaps.reduce((mask, { id }) => (mask | (1 << id)) >>> 0, 0);
}

/**
 * What `openHeap('ion', { mask })` takes for these heaps of a board.
 *
 * @throws TypeError ERR_INVALID_ARG_VALUE: the table lacks one
 */
export function heapMask(table: BoardTable, ...names: string[]): number {
  return maskOf(named(table, names));
}

/**
 * What gralloc would ask ION for: `mask` is for {@link openHeap}, `cached` for {@link Heap.alloc}.
 * Bits that are about something else than memory do not count.
 *
 * @param usage - 32 bits
 * @throws RangeError ERR_OUT_OF_RANGE
 * @throws TypeError ERR_INVALID_ARG_VALUE: it asks for a heap that the table lacks, or for memory the
 *   CPU cannot see from a heap that is not protected
 */
export function grallocRequest(
  table: BoardTable,
  gralloc: GrallocUsage,
  usage: number,
): { mask: number; cached: boolean } {
  checkInteger(usage, 'usage', 0, 0xffffffff);
  const asked = Object.keys(gralloc.heaps).filter((name) => ((gralloc.heaps[name] ?? 0) & usage) !== 0);
  const heaps = named(table, asked.length > 0 ? asked : gralloc.usual);
  const open = heaps.filter(({ type }) => type !== 'protected').map(({ name }) => name);
  if ((usage & gralloc.secure) !== 0 && open.length > 0) {
    throw invalidValue('usage', `asks for protected memory, and these heaps have none: ${open.join(', ')}`);
  }
  const uncached = (usage & gralloc.uncached) !== 0 && !asked.some((name) => gralloc.alwaysCached.includes(name));
  return { mask: maskOf(heaps), cached: !uncached };
}
