// SPDX-License-Identifier: MIT
/** The figures our modules keep of their heaps, in sysfs. @module */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

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
  /** bytes that the device hands out at most, all its heaps together */
  maxBytes?: number;
}

function figure(folder: string, name: string): number | undefined {
  try {
    return Number(readFileSync(join(folder, name), 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * The figures of a heap, where they are kept.
 *
 * @param heap - its folder
 * @param device - the folder of its device
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
