// SPDX-License-Identifier: MIT
import { constants as osConstants } from 'node:os';
import { memoryInfo } from '../advice.js';
import { DmaBufError } from '../errors.js';
import { type Handle, native } from '../native.js';
import { Heap, type Request } from './heap.js';

/** What stands for the path of a heap that is no device. */
export const MEMFD_PATH = 'memfd';

/**
 * Buffers for machines without any device: memfds, sealed against shrinking and growing.
 *
 * No DMA memory: {@link Heap.dma} is false, and no device takes such a descriptor. All
 * else works the same, in one process and between several.
 */
export class MemfdHeap extends Heap {
  override readonly kind = 'memfd';
  override readonly dma = false;
  protected override readonly uncached = false;
  #closed = false;

  private constructor() {
    super(MEMFD_PATH, 'memfd', false);
  }

  /** @internal */
  static open(): MemfdHeap {
    return new MemfdHeap();
  }

  override close(): void {
    this.#closed = true;
  }

  protected override async start(request: Request): Promise<Handle> {
    const size = this.#size(request);
    return size < 0 ? size : native.memfdAlloc(size, request.name);
  }

  protected override startSync(request: Request): Handle {
    const size = this.#size(request);
    return size < 0 ? size : native.memfdAllocSync(size, request.name);
  }

  /** A memfd is named when it is made. */
  protected override nameBuffer(): number {
    return 0;
  }

  /** Whole pages, or -ENOMEM: the kernel would end a process rather than refuse it that much. */
  #size({ length }: Request): number {
    if (this.#closed) {
      throw new DmaBufError('ERR_DMABUF_CLOSED', 'Heap memfd is closed: close it after its last use, or open another', {
        errno: -osConstants.errno.EBADF,
        syscall: 'memfd_create',
        path: MEMFD_PATH,
      });
    }
    const page = native.constants.PAGE_SIZE;
    const size = Math.ceil(length / page) * page;
    // A small one is not worth the look.
    const available = size < 1 << 24 ? undefined : memoryInfo('MemAvailable');
    return available !== undefined && size > available ? -osConstants.errno.ENOMEM : size;
  }
}
