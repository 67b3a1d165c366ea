// SPDX-License-Identifier: MIT
/**
 * Qualcomm's MSM8x60 boards: their heaps, and what the usage bits of their gralloc mean. An example
 * to copy for a board of your own: a table, the bits of its Android, and nothing else.
 *
 * @module
 */
import { type BoardTable, type GrallocUsage, grallocRequest, heapsParameter } from './table.js';

/** Ids in a heap mask: ION_CAMERA_HEAP_ID, ION_SF_HEAP_ID, ION_AUDIO_HEAP_ID and ION_SYSTEM_HEAP_ID there. */
export const CAMERA_HEAP_ID = 20;
export const DISPLAY_HEAP_ID = 24;
export const AUDIO_HEAP_ID = 28;
export const SYSTEM_HEAP_ID = 30;

const MIB = 2 ** 20;

/**
 * The boards' heaps, tried from the lowest id on. The sizes are modest, so that a guest with 64 MiB of
 * CMA has room for them: 8 MiB hold two frames of 1280 x 720 x 4 bytes.
 */
export const heaps: BoardTable = [
  { id: CAMERA_HEAP_ID, type: 'carveout', name: 'camera', size: 8 * MIB },
  { id: DISPLAY_HEAP_ID, type: 'carveout', name: 'display', size: 8 * MIB },
  { id: AUDIO_HEAP_ID, type: 'carveout', name: 'audio', size: 2 * MIB },
  { id: SYSTEM_HEAP_ID, type: 'system', name: 'system' },
];

/** `modprobe ion_lite` with this makes them. */
export const parameter = heapsParameter(heaps);

/** What both releases have in common. */
const common = {
  // the SF heap, and what is left where that is full
  usual: ['display', 'system'],
  // gralloc never asked for scattered pages that are not cached
  alwaysCached: ['system', 'iommu'],
};

/** Usage bits of Android 4.0 on these boards (libgralloc/gralloc_priv.h of Code Aurora, 2012). */
export const android40: GrallocUsage = {
  ...common,
  heaps: {
    adsp: 0x10000000, // GRALLOC_USAGE_PRIVATE_0
    display: 0x20000000, // GRALLOC_USAGE_PRIVATE_UI_CONTIG_HEAP
    smi: 0x40000000,
    system: 0x80000000,
    iommu: 0x01000000,
    mm: 0x02000000,
    writeback: 0x04000000,
    camera: 0x08000000,
  },
  uncached: 0x00100000,
  secure: 0x00004000, // GRALLOC_USAGE_PROTECTED
};

/** Usage bits of Android 4.1 to 4.3, where the same numbers mean other heaps. */
export const android41: GrallocUsage = {
  ...common,
  heaps: {
    system: 0x10000000, // GRALLOC_USAGE_PRIVATE_0
    display: 0x20000000, // GRALLOC_USAGE_PRIVATE_UI_CONTIG_HEAP
    iommu: 0x40000000,
    mm: 0x80000000,
    camera: 0x01000000,
  },
  uncached: 0x02000000,
  secure: 0x00400000, // GRALLOC_USAGE_PRIVATE_CP_BUFFER
};

/**
 * What to ask ION for where gralloc was asked for `usage`.
 *
 * ```ts
 * const { mask, cached } = fromGralloc(0x08000000, android40); // the camera heap
 * using heap = openHeap('ion', { mask });
 * using frame = await heap.alloc(1280 * 720 * 2, { cached });
 * ```
 *
 * @param release - whose bits they are
 * @throws as {@link grallocRequest}
 */
export function fromGralloc(usage: number, release: GrallocUsage): { mask: number; cached: boolean } {
  return grallocRequest(heaps, release, usage);
}
