// SPDX-License-Identifier: MIT
import { constants as osConstants } from 'node:os';
import { allocationAdvice, memoryInfo, openAdvice } from '../advice.js';
import { checkFlag, checkLength, checkName, checkOptions } from '../arguments.js';
import { type DmaBuf, ownDmaBuf } from '../dmabuf.js';
import { type Call, DmaBufError, systemError } from '../errors.js';
import { OwnedHandle } from '../handle.js';
import { type Handle, native } from '../native.js';

/** What buffers are allocated from. */
export type HeapKind = 'ion' | 'dma-heap' | 'cma-mem' | 'udmabuf' | 'memfd';

/** Options of {@link Heap.alloc}. */
export interface AllocOptions {
  /** shown by the kernel in fdinfo; at most 31 bytes of UTF-8 */
  name?: string;
  /** whether CPU mappings are cached; default true. Not cached is write-combined. */
  cached?: boolean;
}

/** An allocation whose arguments are right. @internal */
export interface Request {
  length: number;
  name: string;
  cached: boolean;
}

/**
 * Something buffers are allocated from: one interface for every kind. Made by
 * {@link openHeap}.
 *
 * Closing a heap leaves its buffers alone.
 */
export abstract class Heap implements Disposable {
  abstract readonly kind: HeapKind;
  /** What {@link openHeap} opens; `'memfd'` for that kind. */
  readonly path: string;
  /** The heap's own name, such as `'ion_system_heap'`. */
  readonly name: string;
  /** Whether a buffer is one piece of physical memory. */
  readonly contiguous: boolean;
  /** Whether devices can use the buffers: false for `memfd`. */
  readonly dma: boolean = true;

  /** @internal */
  protected constructor(path: string, name: string, contiguous: boolean) {
    this.path = path;
    this.name = name;
    this.contiguous = contiguous;
  }

  /**
   * Allocates a zeroed buffer on the thread pool.
   *
   * @param length - bytes; the kernel rounds them up to whole pages, see {@link DmaBuf.size}
   * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE: wrong arguments,
   *   more than the memory of this machine, a name longer than the kernel takes
   * @throws SystemError ENOMEM and what else the kernel answers
   * @throws DmaBufError ERR_DMABUF_CLOSED, or ERR_DMABUF_UNSUPPORTED for `cached: false`
   *   where the heap has no such memory
   */
  async alloc(length: number, options: AllocOptions = {}): Promise<DmaBuf> {
    const request = this.#check(length, options);
    return this.#finish(await this.start(request), request);
  }

  /** The same, blocking. */
  allocSync(length: number, options: AllocOptions = {}): DmaBuf {
    const request = this.#check(length, options);
    return this.#finish(this.startSync(request), request);
  }

  /** May be called twice. */
  abstract close(): void;

  /** The same as {@link Heap.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal */
  protected abstract start(request: Request): Promise<Handle>;
  /** @internal */
  protected abstract startSync(request: Request): Handle;
  /** Names the buffer, where it did not get its name when it was made. @internal */
  protected abstract nameBuffer(handle: Handle, name: string): number;
  /** Whether memory that is not cached can be had. @internal */
  protected abstract readonly uncached: boolean;

  /** What to do where the kernel has refused. @internal */
  protected advice(error: number, _length: number): string | undefined {
    return allocationAdvice(error, this.path, this.contiguous);
  }

  #check(length: unknown, options: unknown): Request {
    const call = this.#call;
    checkLength(length, 'length', call);
    checkOptions(options, 'options', call);
    const { name, cached } = options as AllocOptions;
    checkName(name, 'name', call);
    checkFlag(cached, 'cached', call);
    if (cached === false && !this.uncached) {
      throw new DmaBufError(
        'ERR_DMABUF_UNSUPPORTED',
        `The heap ${this.name} has cached memory only: leave out cached: false, or use ion or cma-mem`,
        { ...call, errno: -osConstants.errno.ENOTSUP },
      );
    }
    return { length, name: name ?? '', cached: cached ?? true };
  }

  /** What allocating is, in errors. */
  get #call(): Call {
    return { syscall: this.dma ? 'ioctl' : 'memfd_create', path: this.path };
  }

  #finish(handle: Handle, { length, name }: Request): DmaBuf {
    if (handle < 0) {
      const { syscall } = this.#call;
      throw systemError(handle, syscall, this.path, this.advice(handle, length));
    }
    const error = name === '' ? 0 : this.nameBuffer(handle, name);
    if (error < 0) {
      native.close(handle);
      throw systemError(error, 'ioctl', this.path, 'DMA_BUF_SET_NAME was refused.');
    }
    return ownDmaBuf(handle, { length, name });
  }
}

/** 0, or -ENOMEM where the kernel would end a process rather than refuse it that much. @internal */
export function checkAvailable(size: number): number {
  // A small one is not worth the look.
  const available = size < 1 << 24 ? undefined : memoryInfo('MemAvailable');
  return available !== undefined && size > available ? -osConstants.errno.ENOMEM : 0;
}

/** Opens a device node, with advice where that fails. @internal */
export function openDevice(path: string, flags: number): Handle {
  const handle = native.open(path, flags);
  if (handle < 0) throw systemError(handle, 'open', path, openAdvice(handle, path));
  const description = native.describe(handle);
  if (typeof description === 'number' || !description.isCharacterDevice) {
    native.close(handle);
    throw systemError(
      -osConstants.errno.ENOTTY,
      'ioctl',
      path,
      'It is not a device: heaps() lists what this machine has.',
    );
  }
  return handle;
}

/** A heap behind a device node. @internal */
export abstract class DeviceHeap extends Heap {
  /** The open device. @internal */
  protected readonly device: OwnedHandle;

  /** @internal */
  protected constructor(handle: Handle, path: string, name: string, contiguous: boolean) {
    super(path, name, contiguous);
    this.device = new OwnedHandle(this, handle, `Heap ${path}`, path);
  }

  override close(): void {
    this.device.close();
  }

  protected override nameBuffer(handle: Handle, name: string): number {
    return native.setName(handle, name);
  }
}
