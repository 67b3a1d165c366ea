// SPDX-License-Identifier: MIT
/** Which heaps this machine has, and opening one. @module */
import { statSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { openAdvice } from './advice.js';
import { checkInteger, checkOptions, checkPath } from './arguments.js';
import { invalidType, invalidValue, type SystemError, systemError } from './errors.js';
import { CMA_MEM_PATH, CmaMemHeap } from './heap/cma-mem.js';
import { DMA_HEAP_DIRECTORY, DmaHeap, dmaHeapNames, isContiguousHeap } from './heap/dma-heap.js';
import { type Heap, type HeapKind, sysfsDevice } from './heap/heap.js';
import { ION_PATH, IonHeap, ionHeaps, isContiguous } from './heap/ion.js';
import { MEMFD_PATH, MemfdHeap } from './heap/memfd.js';
import { UDMABUF_PATH, UdmabufHeap } from './heap/udmabuf.js';

const { errno } = osConstants;

/** One heap of this machine. `openHeap(info.path, { heap: info.name })` opens it. */
export interface HeapInfo {
  kind: HeapKind;
  /** the device; `'memfd'` for that kind */
  path: string;
  name: string;
  /** whether a buffer is one piece of physical memory */
  contiguous: boolean;
  /** whether devices can use the buffers */
  dma: boolean;
  /** why it cannot be used, where that is so */
  error?: SystemError;
}

/** Options of {@link openHeap}. */
export interface OpenHeapOptions {
  /**
   * Which of several heaps: for `ion` the name or id of one of its heaps, for `dma-heap`
   * the name of its device. Default: the system heap, or the first there is.
   */
  heap?: string | number;
}

/** What a kind opens. */
const paths: Readonly<Record<HeapKind, string>> = {
  ion: ION_PATH,
  'dma-heap': DMA_HEAP_DIRECTORY,
  'cma-mem': CMA_MEM_PATH,
  udmabuf: UDMABUF_PATH,
  memfd: MEMFD_PATH,
};

function isKind(value: string): value is HeapKind {
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

function ionInfos(): HeapInfo[] {
  const common = { kind: 'ion', path: ION_PATH, dma: true } as const;
  if (!exists(ION_PATH)) return [];
  try {
    return ionHeaps(ION_PATH).map((heap) => ({ ...common, name: heap.name, contiguous: isContiguous(heap) }));
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return [{ ...common, name: 'ion', contiguous: false, error }];
  }
}

/** A heap that is a device of its own, with the reason where it cannot be opened. */
function tried(info: HeapInfo, open: (path: string) => Heap): HeapInfo {
  try {
    open(info.path).close();
    return info;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return { ...info, error };
  }
}

/**
 * The heaps this machine has: every heap of /dev/ion (ION_IOC_HEAP_QUERY), /dev/dma_heap/*,
 * /dev/cma_mem, /dev/udmabuf, and `memfd`, which is always there.
 */
export function heaps(): HeapInfo[] {
  const found = ionInfos();
  for (const name of dmaHeapNames()) {
    const path = join(DMA_HEAP_DIRECTORY, name);
    const info = { kind: 'dma-heap', path, name, contiguous: isContiguousHeap(path), dma: true } as const;
    found.push(tried(info, DmaHeap.open));
  }
  if (exists(CMA_MEM_PATH)) {
    const info = { kind: 'cma-mem', path: CMA_MEM_PATH, name: 'cma_mem', contiguous: true, dma: true } as const;
    found.push(tried(info, CmaMemHeap.open));
  }
  if (exists(UDMABUF_PATH)) {
    const info = { kind: 'udmabuf', path: UDMABUF_PATH, name: 'udmabuf', contiguous: false, dma: true } as const;
    found.push(tried(info, UdmabufHeap.open));
  }
  found.push({ kind: 'memfd', path: MEMFD_PATH, name: 'memfd', contiguous: false, dma: false });
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
    const number = (error as NodeJS.ErrnoException).errno ?? -errno.ENOENT;
    throw systemError(number, 'open', path, openAdvice(number, path));
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

function openDmaHeap(name: string | undefined): DmaHeap {
  const names = dmaHeapNames();
  if (name === undefined && names.length === 0) {
    throw systemError(-errno.ENOENT, 'open', DMA_HEAP_DIRECTORY, openAdvice(-errno.ENOENT, DMA_HEAP_DIRECTORY));
  }
  const chosen = name ?? (names.includes('system') ? 'system' : names[0]);
  if (chosen === undefined || !names.includes(chosen)) {
    const path = join(DMA_HEAP_DIRECTORY, basename(chosen ?? ''));
    throw systemError(-errno.ENOENT, 'open', path, `The dma-heaps there are: ${names.join(', ') || 'none'}.`);
  }
  return DmaHeap.open(join(DMA_HEAP_DIRECTORY, chosen));
}

/** A device that is one heap goes by one name. */
function only<T extends Heap>(heap: T, wanted: string | number | undefined): T {
  if (wanted === undefined || wanted === heap.name) return heap;
  heap.close();
  throw systemError(
    -errno.ENODEV,
    'open',
    heap.path,
    `There is no heap ${JSON.stringify(wanted)} there; its only heap is ${heap.name}.`,
  );
}

/**
 * Opens a heap by its kind or by the path of its device.
 *
 * @param kindOrPath - `'ion'`, `'dma-heap'`, `'cma-mem'`, `'udmabuf'`, `'memfd'`, or a path
 *   such as `/dev/dma_heap/system`
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE: neither a kind nor a path
 * @throws SystemError ENOENT (module not loaded), EACCES, ENOTTY (not such a device),
 *   ENODEV (no such heap there); the message says what to do
 */
export function openHeap(kindOrPath: HeapKind | (string & {}), options: OpenHeapOptions = {}): Heap {
  checkPath(kindOrPath, 'kindOrPath', 'open');
  const path = isKind(kindOrPath) ? paths[kindOrPath] : kindOrPath;
  const call = { syscall: 'open', path };
  checkOptions(options, 'options', call);
  const { heap } = options;
  if (heap !== undefined && typeof heap !== 'string') {
    if (typeof heap !== 'number') throw invalidType('heap', 'a name or an id', heap, call);
    checkInteger(heap, 'heap', 0, 31, call);
  }
  if (!isKind(kindOrPath) && !kindOrPath.includes('/')) {
    const choice = `must be one of ${Object.keys(paths).join(', ')}, or a path. heaps() lists what this machine has: openHeap(path, { heap: name }). Received '${kindOrPath}'`;
    throw invalidValue('kindOrPath', choice, call);
  }
  switch (isKind(kindOrPath) ? kindOrPath : kindOf(path)) {
    case 'ion':
      return IonHeap.open(path, heap);
    case 'cma-mem':
      return only(CmaMemHeap.open(path), heap);
    case 'dma-heap':
      return isKind(kindOrPath)
        ? openDmaHeap(heap === undefined ? heap : String(heap))
        : only(DmaHeap.open(path), heap);
    case 'udmabuf':
      return only(UdmabufHeap.open(path), heap);
    default:
      return only(MemfdHeap.open(), heap);
  }
}
