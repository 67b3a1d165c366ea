// SPDX-License-Identifier: MIT
import { readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { basename } from 'node:path';
import { readAdvice } from '../advice.js';
import { ifAvailable, ifAvailableSync } from '../available.js';
import { errnoOf, systemError } from '../errors.js';
import { type Handle, native } from '../native.js';
import type { HeapTraits } from './choice.js';
import { admitted, DeviceHeap, heapSecret, openDevice, type Request, sysfsDevice } from './heap.js';
import { type DeviceLimit, ION_SYSFS, readStats } from './stats.js';

/** Where the kernel's dma-heaps are, one device each. */
export const DMA_HEAP_DIRECTORY = '/dev/dma_heap';

/**
 * The names of the dma-heaps there are.
 *
 * @param directory - where they are
 * @throws SystemError where that cannot be told
 * @internal
 */
export function dmaHeapNames(directory = DMA_HEAP_DIRECTORY): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === -constants.errno.ENOENT) return [];
    throw systemError(errno, 'scandir', directory, readAdvice(error, errno, directory));
  }
}

/**
 * Whether buffers are one piece. The kernel does not say; these are the names its CMA
 * heaps have had (`reserved`, `linux,cma`, `default_cma_region`, `default-pool`). What counts is
 * the kernel's own name: udev rules make others.
 */
function isContiguousHeap(path: string): boolean {
  const name = basename(sysfsDevice(path) ?? path);
  return /^reserved$|^default-pool$|(^|[^a-z])cma([^a-z]|$)/.test(name.replaceAll('_', '-'));
}

/** What is known of the heap at a path. @internal */
export function dmaHeapTraits(path: string): HeapTraits {
  return { name: basename(path), contiguous: isContiguousHeap(path), protected: false, uncached: false };
}

/** One of /dev/dma_heap/* (`linux/dma-heap.h`, DMA_HEAP_IOCTL_ALLOC). */
export class DmaHeap extends DeviceHeap {
  override readonly kind = 'dma-heap';

  private constructor(key: symbol, device: Handle, path: string) {
    super(admitted(key), device, path, dmaHeapTraits(path));
  }

  /** @internal */
  static open(path: string): DmaHeap {
    return new DmaHeap(heapSecret, openDevice(path, native.constants.O_RDONLY), path);
  }

  /** Those of ion_lite have their device for themselves, and share the limit of /dev/ion. */
  protected override get figuresFolder(): string {
    return this.sysfs;
  }

  protected override get limitFolder(): string {
    return ION_SYSFS;
  }

  /** None of the kernel's own. */
  protected override limit(): DeviceLimit | undefined {
    return readStats(this.figuresFolder, this.limitFolder) && super.limit();
  }

  protected override async start({ length }: Request): Promise<Handle> {
    const device = this.device.get('ioctl');
    const start = () => native.dmaHeapAlloc(device, length);
    return this.contiguous ? start() : ifAvailable(length, false, start);
  }

  protected override startSync({ length }: Request): Handle {
    const device = this.device.get('ioctl');
    const start = () => native.dmaHeapAllocSync(device, length);
    return this.contiguous ? start() : ifAvailableSync(length, false, start);
  }
}
