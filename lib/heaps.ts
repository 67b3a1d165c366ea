// SPDX-License-Identifier: MIT
/** Which heaps this machine has, and opening one. @module */
import { statSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { openAdvice, readAdvice } from './advice.js';
import { checkFlag, checkInteger, checkOptionNames, checkOptions, checkPath } from './arguments.js';
import { type Call, errnoOf, invalidType, invalidValue, type SystemError, systemError } from './errors.js';
import { choose, type HeapChoice, type HeapTraits, inWords, noSuchHeap } from './heap/choice.js';
import { CMA_MEM_PATH, CmaMemHeap, cmaMemTraits } from './heap/cma-mem.js';
import { DMA_HEAP_DIRECTORY, DmaHeap, dmaHeapNames, dmaHeapTraits } from './heap/dma-heap.js';
import { type Heap, type HeapKind, sysfsDevice } from './heap/heap.js';
import { ION_PATH, IonHeap, ionHeaps, ionHeapTypes } from './heap/ion.js';
import { MEMFD_PATH, MemfdHeap, memfdTraits } from './heap/memfd.js';
import { UDMABUF_PATH, UdmabufHeap, udmabufTraits } from './heap/udmabuf.js';

const { errno } = osConstants;

/** One heap of /dev/ion. Where that cannot be opened one entry stands for all of them, with the reason and no `id`. */
export interface IonHeapInfo extends HeapTraits {
  /** tells it from the others */
  kind: 'ion';
  /** `'/dev/ion'` */
  path: string;
  /** Devices can use the buffers. */
  dma: true;
  /** why it cannot be opened, where that is so */
  error?: SystemError;
}

/** A heap that is a device of its own. */
export interface DeviceHeapInfo extends HeapTraits {
  /** tells it from the others */
  kind: Exclude<HeapKind, 'ion' | 'memfd'>;
  /** of the device */
  path: string;
  /** Devices can use the buffers. */
  dma: true;
  /** why it cannot be opened, where that is so */
  error?: SystemError;
}

/** What every machine has. */
export interface MemfdHeapInfo extends HeapTraits {
  /** tells it from the others */
  kind: 'memfd';
  /** what stands for one */
  path: 'memfd';
  /** No device can use the buffers. */
  dma: false;
  /** It can always be opened. */
  error?: never;
}

/** One heap of this machine; its `kind` tells them apart. `openHeap(info.path, { heap: info.name })` opens it. */
export type HeapInfo = IonHeapInfo | DeviceHeapInfo | MemfdHeapInfo;

/** Options of {@link heaps}. */
export interface HeapsOptions {
  /** true: an entry for each kind that this machine lacks, too, whose `error` says what would bring it */
  absent?: boolean;
}

/** A heap of a known kind. */
export type HeapOf<Kind extends HeapKind> = Heap & { readonly kind: Kind };

/** What `openHeap()` is told where neither a kind nor a path matters: at least one of them. */
export interface HeapNeeds extends Pick<HeapChoice, 'contiguous' | 'protected' | 'cached'> {
  /** Whether devices are to use the buffers. Default true; false is `memfd`. */
  dma?: boolean;
}

/**
 * Options of `openHeap()`: by which of several heaps is chosen. Where more than one fits it
 * is the system heap, or else the first, in the order of {@link heaps}: that one alone, whether or not
 * it has room. Only a `mask` tries one after the other.
 */
export interface OpenHeapOptions extends HeapChoice {
  /**
   * For `ion`, instead of a choice: several heaps at once, bit n for the one with the id n.
   * A buffer is allocated from the first of them that can, in the order of {@link heaps}.
   * Bits that no heap has do not count.
   */
  mask?: number;
}

/** What of them a kind has: a `type` or a `mask` chooses among the heaps of `ion`. */
export type OpenHeapOptionsOf<Kind extends HeapKind> = Kind extends 'ion'
  ? OpenHeapOptions
  : Omit<OpenHeapOptions, 'type' | 'mask'>;

/** Their names. */
const openOptions: Readonly<Record<keyof OpenHeapOptions, true>> = {
  heap: true,
  type: true,
  contiguous: true,
  protected: true,
  cached: true,
  mask: true,
};

/** What a kind opens. */
const paths: Readonly<Record<HeapKind, string>> = {
  ion: ION_PATH,
  'dma-heap': DMA_HEAP_DIRECTORY,
  'cma-mem': CMA_MEM_PATH,
  udmabuf: UDMABUF_PATH,
  memfd: MEMFD_PATH,
};

/** @internal */
export function isKind(value: string): value is HeapKind {
  return Object.hasOwn(paths, value);
}

function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && 'errno' in error;
}

function ionInfos(): IonHeapInfo[] {
  const common = { kind: 'ion', path: ION_PATH, dma: true } as const;
  try {
    return ionHeaps(ION_PATH).map((heap) => ({ ...common, ...heap }));
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return [{ ...common, name: 'ion', contiguous: false, protected: false, uncached: true, error }];
  }
}

/** A heap that is a device of its own, with the reason where it cannot be opened. */
function tried(info: DeviceHeapInfo, open: (path: string) => Heap): DeviceHeapInfo {
  try {
    open(info.path).close();
    return info;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return { ...info, error };
  }
}

function dmaHeapInfos(absent: boolean): DeviceHeapInfo[] {
  const common = { kind: 'dma-heap', dma: true } as const;
  let names: string[];
  try {
    names = dmaHeapNames();
  } catch (error) {
    const path = DMA_HEAP_DIRECTORY;
    return [{ ...common, path, ...dmaHeapTraits(path), error: error as SystemError }];
  }
  const found = names.map((name) => {
    const path = join(DMA_HEAP_DIRECTORY, name);
    return tried({ ...common, path, ...dmaHeapTraits(path) }, DmaHeap.open);
  });
  if (found.length > 0 || !absent) return found;
  const path = DMA_HEAP_DIRECTORY;
  return [{ ...common, path, ...dmaHeapTraits(path), error: noDmaHeaps() }];
}

/**
 * The heaps this machine has: every heap of /dev/ion (ION_IOC_HEAP_QUERY), /dev/dma_heap/*,
 * /dev/cma_mem, /dev/udmabuf, and `memfd`, which is always there. One that is there and cannot be
 * opened has an `error` that says why, and what to do.
 *
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 */
export function heaps(options: HeapsOptions = {}): HeapInfo[] {
  const call = { syscall: 'open' };
  checkOptions(options, 'options', call);
  checkOptionNames(options, ['absent'] satisfies (keyof HeapsOptions)[], call);
  checkFlag(options.absent, 'absent', call);
  const { absent = false } = options;
  const wanted = (path: string) => absent || exists(path);
  const found: HeapInfo[] = wanted(ION_PATH) ? ionInfos() : [];
  found.push(...dmaHeapInfos(absent));
  if (wanted(CMA_MEM_PATH)) {
    found.push(tried({ kind: 'cma-mem', path: CMA_MEM_PATH, dma: true, ...cmaMemTraits }, CmaMemHeap.open));
  }
  if (wanted(UDMABUF_PATH)) {
    found.push(tried({ kind: 'udmabuf', path: UDMABUF_PATH, dma: true, ...udmabufTraits }, UdmabufHeap.open));
  }
  found.push({ kind: 'memfd', path: MEMFD_PATH, dma: false, ...memfdTraits });
  return found;
}

/** The kind of a device node, wherever it lies, as sysfs names it. */
function kindOf(path: string): HeapKind {
  if (path === ION_PATH) return 'ion';
  if (path === CMA_MEM_PATH) return 'cma-mem';
  if (path === UDMABUF_PATH) return 'udmabuf';
  if (dirname(path) === DMA_HEAP_DIRECTORY) return 'dma-heap';
  try {
    statSync(path);
  } catch (error) {
    const number = errnoOf(error);
    throw systemError(number, 'open', path, readAdvice(error, number, path));
  }
  const device = sysfsDevice(path) ?? '';
  if (basename(dirname(device)) === 'dma_heap') return 'dma-heap';
  if (basename(device) === 'ion') return 'ion';
  if (basename(device) === 'cma_mem') return 'cma-mem';
  if (basename(device) === 'udmabuf') return 'udmabuf';
  throw systemError(
    -errno.ENOTTY,
    'ioctl',
    path,
    'It is none of the devices buffers come from: heaps() lists what this machine has.',
  );
}

function noDmaHeaps(): SystemError {
  return systemError(-errno.ENOENT, 'open', DMA_HEAP_DIRECTORY, openAdvice(-errno.ENOENT, DMA_HEAP_DIRECTORY));
}

function openDmaHeap(choice: HeapChoice): DmaHeap {
  const names = dmaHeapNames();
  const heap = choice.heap === undefined ? undefined : String(choice.heap);
  if (heap === undefined && names.length === 0) {
    throw noDmaHeaps();
  }
  if (heap !== undefined && !names.includes(heap)) {
    const path = join(DMA_HEAP_DIRECTORY, basename(heap));
    throw systemError(-errno.ENOENT, 'open', path, `The dma-heaps there are: ${names.join(', ') || 'none'}.`);
  }
  const found = names.map((name) => dmaHeapTraits(join(DMA_HEAP_DIRECTORY, name)));
  const wanted = heap === undefined ? choice : { ...choice, heap };
  const chosen = choose(found, wanted, ({ name }) => name === 'system');
  if (chosen === undefined) throw noSuchHeap('open', DMA_HEAP_DIRECTORY, inWords(wanted), found);
  return DmaHeap.open(join(DMA_HEAP_DIRECTORY, chosen.name));
}

/** A device that is one heap: there is nothing to choose, but it may be the wrong one. */
function only<T extends Heap>(heap: T, choice: HeapChoice): T {
  if (choose([heap], choice) !== undefined) return heap;
  heap.close();
  throw noSuchHeap('open', heap.path, inWords(choice), [heap]);
}

/** What was asked for, read once. */
function checkOpenOptions(options: unknown, call: Call): OpenHeapOptions {
  checkOptions(options, 'options', call);
  checkOptionNames(options, Object.keys(openOptions), call);
  const read = { ...(options as OpenHeapOptions) };
  const { heap, type, mask, ...needs } = read;
  if (heap !== undefined && typeof heap !== 'string') {
    if (typeof heap !== 'number') throw invalidType('heap', 'a name or an id', heap, call);
    checkInteger(heap, 'heap', 0, 31, call);
  }
  if (type !== undefined) {
    if (typeof type !== 'string') throw invalidType('type', 'of type string', type, call);
    if (!Object.hasOwn(ionHeapTypes, type)) {
      const choice = `must be one of ${Object.keys(ionHeapTypes).join(', ')}. Received '${String(type)}'`;
      throw invalidValue('type', choice, call);
    }
  }
  for (const [name, value] of Object.entries(needs)) checkFlag(value, name, call);
  if (mask === undefined) return read;
  checkInteger(mask, 'mask', 1, 0xffffffff, call);
  const other = Object.entries({ heap, type, ...needs }).find(([, value]) => value !== undefined)?.[0];
  if (other !== undefined) throw invalidValue('mask', `says all: leave it or '${other}' out`, call);
  return read;
}

/** The names of {@link HeapNeeds}. */
const needNames: Readonly<Record<keyof HeapNeeds, true>> = {
  contiguous: true,
  protected: true,
  cached: true,
  dma: true,
};

/** The first heap there is that has what is needed and can be opened. */
function openByNeed(asked: HeapNeeds): Heap {
  const call = { syscall: 'open' };
  const needs = { ...asked };
  checkOptionNames(needs, Object.keys(needNames), call);
  for (const [name, value] of Object.entries(needs)) checkFlag(value, name, call);
  const { dma = true, ...choice } = needs;
  const found = heaps({ absent: true });
  const reasons: string[] = [];
  for (const info of found) {
    if (info.error !== undefined) reasons.push(info.error.message);
    else if (info.dma === dma && choose([info], choice) !== undefined) {
      return openHeap(info.path, { heap: info.name });
    }
  }
  const usable = found.filter(({ error }) => error === undefined).map(({ kind, name }) => `${kind} ${name}`);
  const list = `there are ${usable.join(', ')}`;
  const wanted = `There is no heap ${inWords(needs)}: ${list}. These cannot be opened: ${reasons.join(' ')}`;
  throw systemError(-errno.ENODEV, 'open', undefined, wanted);
}

/**
 * Opens a heap by its kind, by the path of its device, or by what is needed: the one that is named, or
 * one that has what is needed.
 *
 * @param kind - `'ion'`, `'dma-heap'`, `'cma-mem'`, `'udmabuf'` or `'memfd'`; or a path such as `/dev/dma_heap/system`
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE: neither a kind nor a path, an
 *   option that there is not or that does not go with another; RangeError ERR_OUT_OF_RANGE
 * @throws SystemError ENOENT (module not loaded), EACCES, ENOTTY (not such a device),
 *   ENODEV (no such heap there); the message says what to do
 */
export function openHeap<Kind extends HeapKind>(kind: Kind, options?: OpenHeapOptionsOf<Kind>): HeapOf<Kind>;
/** By a path, or by what is one or the other: `kind` tells afterwards. */
export function openHeap<Path extends string>(
  kindOrPath: [Path] extends [HeapKind] ? never : Path,
  options?: OpenHeapOptions,
): Heap;
/**
 * Opens the first heap, in the order of {@link heaps}, that has what is needed and can be opened.
 *
 * @param needs - such as `{ contiguous: true }`
 * @throws SystemError ENODEV: there is none; the message says what there is, and what keeps others from
 *   being opened
 */
export function openHeap(needs: HeapNeeds): Heap;
export function openHeap(which: string | HeapNeeds, options: OpenHeapOptions = {}): Heap {
  if (typeof which === 'object' && which !== null && Object.keys(which).length > 0) return openByNeed(which);
  if (typeof which !== 'string') {
    throw invalidType('kindOrPath', 'a kind, a path, or an object that says what is needed', which, {
      syscall: 'open',
    });
  }
  checkPath(which, 'kindOrPath', 'open');
  const path = isKind(which) ? paths[which] : which;
  const call = { syscall: 'open', path };
  const { mask, ...choice } = checkOpenOptions(options, call);
  if (!isKind(which) && !which.includes('/')) {
    const choice = `must be one of ${Object.keys(paths).join(', ')}, or a path. heaps() lists what this machine has: openHeap(path, { heap: name }). Received '${which}'`;
    throw invalidValue('kindOrPath', choice, call);
  }
  const kind = isKind(which) ? which : kindOf(path);
  if (mask !== undefined && kind !== 'ion') throw invalidValue('mask', `is for heaps of ion, not of ${kind}`, call);
  switch (kind) {
    case 'ion':
      return IonHeap.open(path, choice, mask);
    case 'cma-mem':
      return only(CmaMemHeap.open(path), choice);
    case 'dma-heap':
      return isKind(which) ? openDmaHeap(choice) : only(DmaHeap.open(path), choice);
    case 'udmabuf':
      return only(UdmabufHeap.open(path), choice);
    default:
      return only(MemfdHeap.open(), choice);
  }
}
