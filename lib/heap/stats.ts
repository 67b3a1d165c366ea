// SPDX-License-Identifier: MIT
/** The figures our modules keep of their heaps, in sysfs. @module */
import { readdirSync, readFileSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { join } from 'node:path';
import { descriptorAdvice } from '../advice.js';
import { errnoOf, systemError } from '../errors.js';

/** What is allocated from a heap, by all processes. */
export interface HeapStats {
  /** buffers allocated now */
  buffers: number;
  /** bytes of them, whole pages */
  bytes: number;
  /** most bytes at a time since the module was loaded */
  peakBytes: number;
  /** bytes of the heap, where it has memory of its own (a carveout) */
  size?: number;
  /** bytes of the largest piece of it that is free: the largest buffer there can be now */
  largestFree?: number;
  /** bytes that the device hands out at most, all its heaps together, and with them the dma-heaps of ion_lite */
  maxBytes?: number;
}

/** The figures of one of the heaps. */
export interface HeapFigures extends HeapStats {
  /** the device it belongs to, at its usual place */
  path: string;
  /** its own, as {@link HeapTraits.name} */
  name: string;
  /** one of ION has it */
  id?: number;
}

/** What a module hands out at most, and of that has handed out, in bytes. @internal */
export interface DeviceLimit {
  bytes: number;
  maxBytes: number;
  /** of these, through one open file, where that has a limit of its own */
  maxBytesPerFile?: number;
}

/** Where ion_lite's limit is, which its dma-heaps share. @internal */
export const ION_SYSFS = '/sys/class/misc/ion';

/** None where there is nothing of that name. */
function ifThere<T>(path: string, read: (path: string) => T): T | undefined {
  try {
    return read(path);
  } catch (error) {
    const { syscall = 'read' } = error as NodeJS.ErrnoException;
    const errno = errnoOf(error);
    if (errno === -osConstants.errno.ENOENT) return undefined;
    throw systemError(errno, syscall, path, descriptorAdvice(errno));
  }
}

const text = (path: string) => ifThere(path, (file) => readFileSync(file, 'utf8').trim());
const entries = (folder: string) => ifThere(folder, (path) => readdirSync(path).sort()) ?? [];

/** What only makes the message of another error better: none where it cannot be read. @internal */
export function ifReadable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function figure(folder: string, name: string): number | undefined {
  const value = text(join(folder, name));
  return value === undefined ? undefined : Number(value);
}

/** The limit of a device, where it has one. @internal */
export function readLimit(device: string): DeviceLimit | undefined {
  const bytes = figure(device, 'bytes');
  const maxBytes = figure(device, 'max_bytes');
  const perFile = figure(device, 'max_bytes_per_file');
  if (bytes === undefined || maxBytes === undefined) return undefined;
  return { bytes, maxBytes, ...(perFile === undefined ? {} : { maxBytesPerFile: perFile }) };
}

/**
 * The figures of a heap, where they are kept.
 *
 * @param heap - its folder
 * @param device - the folder of the device whose limit it has
 * @throws SystemError
 * @internal
 */
export function readStats(heap: string, device: string): HeapStats | undefined {
  const buffers = figure(heap, 'buffers');
  const bytes = figure(heap, 'bytes');
  const peakBytes = figure(heap, 'peak_bytes');
  if (buffers === undefined || bytes === undefined || peakBytes === undefined) return undefined;
  const size = figure(heap, 'size');
  const largestFree = figure(heap, 'largest_free');
  const maxBytes = figure(device, 'max_bytes');
  return {
    buffers,
    bytes,
    peakBytes,
    ...(size === undefined ? {} : { size }),
    ...(largestFree === undefined ? {} : { largestFree }),
    ...(maxBytes === undefined ? {} : { maxBytes }),
  };
}

/** @internal */
export function allStats(classes: string): HeapFigures[] {
  const ion = join(classes, 'misc/ion');
  const cma = join(classes, 'misc/cma_mem');
  const nodes = join(classes, 'dma_heap');
  const ids = entries(ion).flatMap((entry) => (/^heap\d+$/.test(entry) ? [Number(entry.slice(4))] : []));
  ids.sort((a, b) => a - b);
  const places = [
    ...ids.map((id) => ({ path: '/dev/ion', id, heap: join(ion, `heap${id}`), device: ion })),
    { path: '/dev/cma_mem', heap: join(cma, 'heap0'), device: cma },
    ...entries(nodes).map((name) => ({ path: `/dev/dma_heap/${name}`, heap: join(nodes, name), device: ion })),
  ];
  return places.flatMap(({ heap, device, ...place }) => {
    const name = text(join(heap, 'name'));
    const stats = readStats(heap, device);
    return name === undefined || stats === undefined ? [] : [{ ...place, name, ...stats }];
  });
}

/**
 * The figures of every heap that is counted, read from sysfs: no device is opened, and anybody may.
 * The heaps are those of ion_lite and of cma_mem; the kernel's own dma-heaps are not counted.
 *
 * @throws SystemError EMFILE and the like
 */
export function heapStats(): HeapFigures[] {
  return allStats('/sys/class');
}
