// SPDX-License-Identifier: MIT
import { join } from 'node:path';
import { carveoutAdvice, memoryAdvice } from '../advice.js';
import { type Handle, native } from '../native.js';
import type { HeapTraits } from './choice.js';
import { admitted, DeviceHeap, heapSecret, openDevice, type Request } from './heap.js';
import { ifReadable, readStats } from './stats.js';

/** Where contiguous memory is. */
export const CMA_MEM_PATH = '/dev/cma_mem';

/** @internal */
export const cmaMemTraits: HeapTraits = { name: 'cma_mem', contiguous: true, protected: false, uncached: true };

/**
 * How much memory there is for so many bytes: in CMA, or in the region of its own that the device tree gives it.
 *
 * @param sysfs - folder of the device
 * @internal
 */
export function cmaMemoryAdvice(sysfs: string, size: number): string {
  const stats = ifReadable(() => readStats(join(sysfs, 'heap0'), sysfs));
  if (stats?.size === undefined || stats.largestFree === undefined) return memoryAdvice(true);
  return carveoutAdvice(cmaMemTraits.name, size, stats.size, stats.largestFree, 'in the device tree');
}

/**
 * /dev/cma_mem as a heap: contiguous memory straight as a dma-buf (CMEM_IOC_ALLOC).
 * {@link CmaMem} has its regions.
 */
export class CmaMemHeap extends DeviceHeap {
  override readonly kind = 'cma-mem';

  private constructor(key: symbol, device: Handle, path: string) {
    super(admitted(key), device, path, cmaMemTraits);
  }

  /** @internal */
  static open(path: string): CmaMemHeap {
    return new CmaMemHeap(heapSecret, openDevice(path, native.constants.O_RDWR), path);
  }

  protected override start({ length, cached }: Request): Promise<Handle> {
    return native.cmaAlloc(this.device.get('ioctl'), length, cached);
  }

  protected override startSync({ length, cached }: Request): Handle {
    return native.cmaAllocSync(this.device.get('ioctl'), length, cached);
  }

  protected override memory(size: number): string {
    return cmaMemoryAdvice(this.sysfs, size);
  }
}
