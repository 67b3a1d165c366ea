// SPDX-License-Identifier: MIT
import { constants as osConstants } from 'node:os';
import { ifAvailable, ifAvailableSync } from '../available.js';
import { DmaBufError } from '../errors.js';
import { wholePages } from '../mapping.js';
import { type Description, FileKind, type Handle, native } from '../native.js';
import type { HeapTraits } from './choice.js';
import { admitted, Heap, heapSecret, type Request } from './heap.js';

/** What stands for the path of a heap that is no device. */
export const MEMFD_PATH = 'memfd';

const { F_SEAL_GROW, F_SEAL_SHRINK, O_RDWR } = native.constants;

/** @internal */
export const memfdTraits: HeapTraits = { name: 'memfd', contiguous: false, protected: false, uncached: false };

/**
 * Buffers for machines without any device: memfds, sealed against shrinking and growing.
 *
 * No DMA memory: {@link Heap.dma} is false, and no device takes such a descriptor. All
 * else works the same, in one process and between several.
 */
export class MemfdHeap extends Heap {
  override readonly kind = 'memfd';
  override readonly dma = false;
  #closed = false;

  private constructor(key: symbol) {
    super(admitted(key), MEMFD_PATH, memfdTraits);
  }

  /** @internal */
  static open(): MemfdHeap {
    return new MemfdHeap(heapSecret);
  }

  override close(): void {
    this.#closed = true;
  }

  protected override async start({ length, name }: Request): Promise<Handle> {
    this.#checkOpen();
    const size = wholePages(length);
    return ifAvailable(size, true, () => native.memfdAlloc(size, name));
  }

  protected override startSync({ length, name }: Request): Handle {
    this.#checkOpen();
    const size = wholePages(length);
    return ifAvailableSync(size, true, () => native.memfdAllocSync(size, name));
  }

  /** A memfd is named when it is made. */
  protected override nameBuffer(): number {
    return 0;
  }

  /** As native.memfdAlloc has made it: asking would take four system calls. */
  protected override describe(handle: Handle, length: number): Description {
    return {
      // Its path is made of its name.
      fd: -1,
      kind: FileKind.memfd,
      size: wholePages(length),
      inode: native.inode(handle),
      access: O_RDWR,
      seals: F_SEAL_SHRINK | F_SEAL_GROW,
      deviceMajor: -1,
      deviceMinor: -1,
    };
  }

  #checkOpen(): void {
    if (this.#closed) {
      throw new DmaBufError('ERR_DMABUF_CLOSED', 'Heap memfd is closed: close it after its last use, or open another', {
        errno: -osConstants.errno.EBADF,
        syscall: 'memfd_create',
        path: MEMFD_PATH,
      });
    }
  }
}
