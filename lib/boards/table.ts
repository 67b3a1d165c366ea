// SPDX-License-Identifier: MIT
/** Tables of heaps: what a board has, said to ion_lite, to {@link openHeap} and to gralloc's users. @module */
import { checkInteger } from '../arguments.js';
import { invalidType, invalidValue } from '../errors.js';
import { type IonHeapType, maskOf } from '../heap/choice.js';

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
/** Bytes of the smallest pages there are. */
const PAGE = 4096;
/** Bytes of a carveout, at most, with these. */
const MAX_SIZE = 0x7fffffff * PAGE;
/** Characters of a parameter. */
const MAX_PARAMETER = 1023;

/** Whether a heap of the type has a size. */
const sizes: Readonly<Record<BoardHeap['type'], 'no' | 'may' | 'must'>> = {
  system: 'no',
  system_contig: 'no',
  carveout: 'must',
  dma: 'no',
  iommu: 'no',
  protected: 'may',
};

function checkPlace({ type, name, size, base }: BoardHeap): void {
  if (size === undefined && sizes[type] === 'must') throw invalidValue('size', `is missing: ${name} is a ${type}`);
  if (size !== undefined && sizes[type] === 'no') throw invalidValue('size', `is for no ${type}, which ${name} is`);
  if (size !== undefined) checkInteger(size, 'size', 1, MAX_SIZE);
  if (base === undefined) return;
  checkInteger(base, 'base', 0, Number.MAX_SAFE_INTEGER);
  if (base % PAGE !== 0) throw invalidValue('base', `of the heap ${name} is not at the start of a page`);
  if (size === undefined) throw invalidValue('base', `of the heap ${name} needs a size`);
}

function checkHeap(heap: unknown): asserts heap is BoardHeap {
  if (typeof heap !== 'object' || heap === null) throw invalidType('table', 'an array of heaps', heap);
  const { id, type, name } = heap as Record<keyof BoardHeap, unknown>;
  checkInteger(id, 'id', 0, 31);
  if (typeof type !== 'string') throw invalidType('type', 'of type string', type);
  if (!Object.hasOwn(sizes, type)) {
    throw invalidValue('type', `must be one of ${Object.keys(sizes).join(', ')}. Received '${type}'`);
  }
  if (typeof name !== 'string') throw invalidType('name', 'of type string', name);
  if (!NAME.test(name)) throw invalidValue('name', `must be 1 to 31 letters, digits, _, - and . Received '${name}'`);
  checkPlace(heap as BoardHeap);
}

function overlap(a: BoardHeap, b: BoardHeap): boolean {
  if (a.base === undefined || a.size === undefined || b.base === undefined || b.size === undefined) return false;
  return a.base < b.base + b.size && b.base < a.base + a.size;
}

/** As far as the machine does not matter, a table the module takes. */
function checkTable(table: unknown): asserts table is BoardTable {
  if (!Array.isArray(table)) throw invalidType('table', 'an array of heaps', table);
  if (table.length === 0) throw invalidValue('table', 'has no heap');
  // not forEach, which leaves out holes
  for (const [index, heap] of table.entries()) {
    checkHeap(heap);
    const { id, name } = heap;
    if (table.findIndex((other) => other.id === id || other.name === name) !== index) {
      throw invalidValue('table', `has the id ${id} or the name ${name} twice`);
    }
    const other = table.slice(0, index).find((each) => overlap(each, heap));
    if (other !== undefined) throw invalidValue('table', `has ${name} in the memory of ${other.name}`);
  }
}

/**
 * The parameter of ion_lite that makes these heaps, such as `heaps=0:system:ion_system_heap`:
 * `modprobe ion_lite heaps=…`, or `scripts/guest --module "ion_lite heaps=…"`.
 *
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, RangeError ERR_OUT_OF_RANGE: a table that the
 *   module refuses on any machine, or that is longer than the kernel takes
 */
export function heapsParameter(table: BoardTable): string {
  checkTable(table);
  const entries = table.map(({ id, type, name, size, base }) => {
    const place = base === undefined ? size : `${size}@0x${base.toString(16)}`;
    return [id, type, name, ...(place === undefined ? [] : [place])].join(':');
  });
  const value = entries.join(',');
  if (value.length > MAX_PARAMETER) {
    const reason = `takes ${value.length} characters, and the kernel no more than ${MAX_PARAMETER}`;
    throw invalidValue('table', `${reason}: shorten names, or say it in a device tree`);
  }
  return `heaps=${value}`;
}

function named(table: BoardTable, names: readonly string[]): BoardHeap[] {
  checkTable(table);
  if (names.length === 0) throw invalidValue('names', 'must be those of one heap or more');
  const absent = names.filter((name) => !table.some((heap) => heap.name === name));
  if (absent.length > 0) {
    const there = table.map(({ name }) => name).join(', ') || 'none';
    throw invalidValue('table', `has no heap ${absent.join(', ')}; its heaps are: ${there}`);
  }
  return table.filter(({ name }) => names.includes(name));
}

/**
 * What `openHeap('ion', { mask })` takes for these heaps of a board.
 *
 * @throws TypeError ERR_INVALID_ARG_VALUE: the table lacks one, or none is named; what
 *   {@link heapsParameter} says of a table
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
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE: it asks for a heap that the table lacks, or for memory the
 *   CPU cannot see from a heap that is not protected
 */
export function grallocRequest(
  table: BoardTable,
  gralloc: GrallocUsage,
  usage: number,
): { mask: number; cached: boolean } {
  checkInteger(usage, 'usage', 0, 0xffffffff);
  if (typeof gralloc?.heaps !== 'object' || !Array.isArray(gralloc.usual) || !Array.isArray(gralloc.alwaysCached)) {
    throw invalidType('gralloc', 'what the bits of a release mean', gralloc);
  }
  const asked = Object.keys(gralloc.heaps).filter((name) => ((gralloc.heaps[name] ?? 0) & usage) !== 0);
  const heaps = named(table, asked.length > 0 ? asked : gralloc.usual);
  const open = heaps.filter(({ type }) => type !== 'protected').map(({ name }) => name);
  if ((usage & gralloc.secure) !== 0 && open.length > 0) {
    throw invalidValue('usage', `asks for protected memory, and these heaps have none: ${open.join(', ')}`);
  }
  const uncached = (usage & gralloc.uncached) !== 0 && !asked.some((name) => gralloc.alwaysCached.includes(name));
  return { mask: maskOf(heaps), cached: !uncached };
}
