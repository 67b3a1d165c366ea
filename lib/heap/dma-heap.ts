// SPDX-License-Identifier: MIT
import { readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { type Handle, native } from '../native.js';
import { checkAvailable, DeviceHeap, openDevice, type Request } from './heap.js';

/** Where the kernel's dma-heaps are, one device each. */
export const DMA_HEAP_DIRECTORY = '/dev/dma_heap';

/** The names of the dma-heaps there are. @internal */
export function dmaHeapNames(): string[] {
  try {
    return readdirSync(DMA_HEAP_DIRECTORY).sort();
  } catch {
    return [];
  }
}

/**
 * Whether buffers are one piece. The kernel does not say; these are the names its CMA
 * heaps have had (`reserved`, `linux,cma`, `default_cma_region`). @internal
 */
export function isContiguousName(name: string): boolean {
  return name === 'reserved' || /(^|[^a-z])cma([^a-z]|$)/.test(name.replaceAll('_', '-'));
}

/** One of /dev/dma_heap/* (`linux/dma-heap.h`, DMA_HEAP_IOCTL_ALLOC). */
export class DmaHeap extends DeviceHeap {
  override readonly kind = 'dma-heap';
  protected override readonly uncached = false;

  private constructor(device: Handle, path: string) {
    const name = basename(path);
    super(device, path, name, isContiguousName(name));
  }

  /** @internal */
  static open(path: string): DmaHeap {
    return new DmaHeap(openDevice(path, native.constants.O_RDONLY), path);
  }

  protected override async start({ length }: Request): Promise<Handle> {
    const device = this.device.get('ioctl');
    return this.#refuse(length) || native.dmaHeapAlloc(device, length);
  }

  protected override startSync({ length }: Request): Handle {
    const device = this.device.get('ioctl');
    return this.#refuse(length) || native.dmaHeapAllocSync(device, length);
  }

  /** The system heaps take what programs have; others may have memory of their own. */
  #refuse(length: number): number {
    return /^system(-|$)/.test(this.name) ? checkAvailable(length) : 0;
  }
}
