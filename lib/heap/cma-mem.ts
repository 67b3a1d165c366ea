// SPDX-License-Identifier: MIT
import { type Handle, native } from '../native.js';
import type { HeapTraits } from './choice.js';
import { DeviceHeap, openDevice, type Request } from './heap.js';

/** Where contiguous memory is. */
export const CMA_MEM_PATH = '/dev/cma_mem';

/** @internal */
export const cmaMemTraits: HeapTraits = { name: 'cma_mem', contiguous: true, protected: false, uncached: true };

/**
 * /dev/cma_mem as a heap: contiguous memory straight as a dma-buf (CMEM_IOC_ALLOC).
 * {@link CmaMem} has its regions.
 */
export class CmaMemHeap extends DeviceHeap {
  override readonly kind = 'cma-mem';

  private constructor(device: Handle, path: string) {
    super(device, path, cmaMemTraits);
  }

  /** @internal */
  static open(path: string): CmaMemHeap {
    return new CmaMemHeap(openDevice(path, native.constants.O_RDWR), path);
  }

  protected override start({ length, cached }: Request): Promise<Handle> {
    return native.cmaAlloc(this.device.get('ioctl'), length, cached);
  }

  protected override startSync({ length, cached }: Request): Handle {
    return native.cmaAllocSync(this.device.get('ioctl'), length, cached);
  }
}
