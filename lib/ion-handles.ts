// SPDX-License-Identifier: MIT
/**
 * ION as Linux 3.0 to 4.11 had it: clients, and handles of buffers. For code that is ported from there; new code
 * has `openHeap()`. `ion_lite` is loaded with `legacy_abi=1` for it.
 *
 * @module
 */
import { constants as osConstants } from 'node:os';
import { allocationAdvice, descriptorAdvice, memoryAdvice } from './advice.js';
import {
  checkFd,
  checkFlag,
  checkInteger,
  checkLength,
  checkOptionNames,
  checkOptions,
  checkPath,
  checkRange,
  type Range,
} from './arguments.js';
import { DmaBuf, ownDmaBuf } from './dmabuf.js';
import { DmaBufError, illegalConstructor, invalidType, outOfRange, systemError } from './errors.js';
import { OwnedHandle } from './handle.js';
import { openDevice } from './heap/heap.js';
import { ION_PATH, IonHeap } from './heap/ion.js';
import { Mapping } from './mapping.js';
import { type Handle, native } from './native.js';

const { constants } = native;
const { EBADF, EINVAL, ENODEV, ENOMEM, ENOSPC, EPERM, EBUSY } = osConstants.errno;

/** A buffer as its client calls it: a number from 1, which means nothing to another client. */
export type IonHandle = number;

/** Options of {@link IonClient.alloc}. */
export interface IonAllocOptions {
  /** heaps to try: bit n for the heap with id n, as fromGralloc() of `dmabuf/boards/…` says it */
  mask: number;
  /**
   * what the physical address of contiguous memory is to be a multiple of, in bytes; a power of two, default none.
   * More than 1 MiB is to be had from a carveout, and elsewhere by luck
   */
  align?: number;
  /** whether CPU mappings are cached; default false, as it was then */
  cached?: boolean;
}

const allocOptions = ['mask', 'align', 'cached'] satisfies (keyof IonAllocOptions)[];
const MAX_HANDLE = 0x7fffffff;

/** What {@link native.ionHandleFlush} does. */
const flushes = { clean: 0, invalidate: 1, both: 2 } as const;

const NO_BUFFER = 'It is no dma-buf of /dev/ion.';
const NO_DESCRIPTOR = 'This process has no such descriptor.';
const NO_BOUNCE_BUFFERS =
  'No bounce buffer is free to write it back through: try again, or boot with more of them (swiotlb=).';
const NO_HANDLES_LEFT =
  'All clients together have as many handles as ion_lite lets them have (max_handles=): free some.';

const secret = Symbol('ion-client');

/**
 * A client of /dev/ion: an open file, whose handles end with it. The buffers live on in dma-bufs, mappings and other
 * clients.
 */
export class IonClient implements Disposable {
  /** The device it is a client of. */
  readonly path: string;
  readonly #device: OwnedHandle;

  private constructor(key: symbol, device: Handle, path: string) {
    if (key !== secret) throw illegalConstructor('An IonClient is made by IonClient.open()');
    this.path = path;
    this.#device = new OwnedHandle(this, device, `IonClient ${path}`, path);
  }

  /**
   * Becomes a client.
   *
   * @throws SystemError ENOENT (module not loaded), EACCES; ENOTTY, EINVAL: it has no handles
   */
  static open(path: string = ION_PATH): IonClient {
    checkPath(path, 'path', 'open');
    const device = openDevice(path, constants.O_RDONLY);
    // A dma-heap, whose calls have other numbers, has none to tell of.
    const found = native.ionHeaps(device);
    // As clients of that age found out which interface they faced.
    const error = typeof found === 'number' ? found : native.ionHandleFree(device, 0);
    if (error !== -EINVAL || typeof found === 'number') {
      native.close(device);
      const advice =
        typeof found === 'number' ? 'It is no /dev/ion.' : 'It has no handles: load ion_lite with legacy_abi=1.';
      throw systemError(error, 'ioctl', path, advice);
    }
    return new IonClient(secret, device, path);
  }

  /**
   * A new, zeroed buffer from the first heap of a mask that has room (ION_IOC_ALLOC), made on the thread pool.
   *
   * @param length - bytes; the kernel rounds them up to whole pages
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, RangeError ERR_OUT_OF_RANGE
   * @throws SystemError ENODEV: no heap is in the mask; ENOMEM; ENOSPC: no handle is left (max_handles)
   * @throws DmaBufError ERR_DMABUF_CLOSED, also where the client is closed meanwhile
   */
  async alloc(length: number, options: IonAllocOptions): Promise<IonHandle> {
    const checked = this.#check(length, options);
    const { align, mask, cached } = checked;
    const id = await native.ionHandleAlloc(this.#device.get('ioctl'), length, align, mask, cached);
    // A handle ends with its client.
    this.#device.get('ioctl');
    return this.#allocated(id, length, checked);
  }

  /** The same, blocking. */
  allocSync(length: number, options: IonAllocOptions): IonHandle {
    const checked = this.#check(length, options);
    const { align, mask, cached } = checked;
    const id = native.ionHandleAllocSync(this.#device.get('ioctl'), length, align, mask, cached);
    return this.#allocated(id, length, checked);
  }

  /**
   * The buffer of a dma-buf (ION_IOC_IMPORT): the handle the client has of it already, or a new one. It is to be
   * given up as often as it was given.
   *
   * @param buffer - a dma-buf of /dev/ion, or its descriptor; it stays the caller's
   * @throws SystemError EINVAL: it is none; EBADF; ENOSPC: no handle is left (max_handles)
   */
  import(buffer: DmaBuf | number): IonHandle {
    const fd = this.#fd(buffer);
    const id = native.ionHandleImport(this.#device.get('ioctl'), fd);
    if (id < 0) throw this.#importError(id);
    return id;
  }

  /**
   * A new dma-buf of the buffer (ION_IOC_SHARE), which lives on without the handle.
   *
   * @throws SystemError EINVAL: the client has no such handle
   */
  share(handle: IonHandle): DmaBuf {
    this.#checkHandle(handle);
    const buffer = native.ionHandleShare(this.#device.get('ioctl'), handle);
    if (buffer < 0) throw this.#handleError(buffer, handle);
    return ownDmaBuf(buffer);
  }

  /**
   * Gives a handle up (ION_IOC_FREE).
   *
   * @throws SystemError EINVAL: the client has no such handle
   */
  free(handle: IonHandle): void {
    this.#checkHandle(handle);
    const error = native.ionHandleFree(this.#device.get('ioctl'), handle);
    if (error < 0) throw this.#handleError(error, handle);
  }

  /**
   * Whether the buffer was allocated as cached (ION_IOC_GET_FLAGS).
   *
   * @throws SystemError EINVAL: the client has no such handle
   */
  cached(handle: IonHandle): boolean {
    this.#checkHandle(handle);
    const flags = native.ionHandleFlags(this.#device.get('ioctl'), handle);
    if (flags < 0) throw this.#handleError(flags, handle);
    return (flags & 1) !== 0;
  }

  /**
   * Writes back what the CPU has written, for a device to read (ION_IOC_CLEAN_CACHES).
   *
   * @param mapping - of the buffer
   * @param range - bytes from the start of the mapping; default: all of it
   * @throws SystemError EINVAL: the client has no such handle, or that is no mapping of its buffer; ENOMEM: memory bounces,
   *   and no bounce buffer is free
   * @throws DmaBufError ERR_DMABUF_CLOSED: the client, or the mapping
   */
  cleanCaches(handle: IonHandle, mapping: Mapping, range: Range = {}): void {
    this.#flush(handle, mapping, range, 'clean');
  }

  /**
   * Lets the CPU read what attached devices have written (ION_IOC_INV_CACHES). What the CPU has written and not
   * cleaned may be lost.
   *
   * @throws what {@link IonClient.cleanCaches} does
   */
  invalidateCaches(handle: IonHandle, mapping: Mapping, range: Range = {}): void {
    this.#flush(handle, mapping, range, 'invalidate');
  }

  /**
   * Both (ION_IOC_CLEAN_INV_CACHES).
   *
   * @throws what {@link IonClient.cleanCaches} does
   */
  cleanInvalidateCaches(handle: IonHandle, mapping: Mapping, range: Range = {}): void {
    this.#flush(handle, mapping, range, 'both');
  }

  /**
   * Writes back all of a buffer (ION_IOC_SYNC).
   *
   * @param buffer - a dma-buf of /dev/ion, or its descriptor
   * @throws SystemError EINVAL: it is none; EBADF; ENOMEM: memory bounces, and no bounce buffer is free
   */
  sync(buffer: DmaBuf | number): void {
    const fd = this.#fd(buffer);
    const error = native.ionHandleSync(this.#device.get('ioctl'), fd);
    if (error === -ENOMEM) throw this.#error(error, NO_BOUNCE_BUFFERS);
    if (error < 0) throw this.#importError(error);
  }

  /**
   * Keeps the CPU out of the buffers of a protected heap, or lets it in (ION_IOC_CUSTOM). It is kept out from the
   * start. It is so for everybody, and stays so when the client is closed. That is policy of the module, nothing else
   * keeps anybody out.
   *
   * @param heap - its id
   * @param secure - false: the CPU may map them
   * @throws SystemError EPERM: not root; EINVAL: no such heap, or not protected; EBUSY: a buffer is mapped
   */
  secureHeap(heap: number, secure = true): void {
    checkInteger(heap, 'heap', 0, 31, this.#call);
    checkFlag(secure, 'secure', this.#call);
    const error = native.ionHeapSecure(this.#device.get('ioctl'), heap, secure);
    if (error === -EINVAL) throw this.#error(error, `It has no protected heap with the id ${heap}.`);
    if (error === -EBUSY) throw this.#error(error, 'Close the mappings of its buffers first.');
    this.#must(error, error === -EPERM ? 'That takes CAP_SYS_ADMIN.' : undefined);
  }

  /** Gives up all handles. May be called twice. */
  close(): void {
    this.#device.close();
  }

  /** The same as {@link IonClient.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  get #call() {
    return { syscall: 'ioctl', path: this.path };
  }

  #check(length: unknown, options: unknown): Required<IonAllocOptions> {
    const call = this.#call;
    checkLength(length, 'length', call);
    checkOptions(options, 'options', call);
    checkOptionNames(options, allocOptions, call);
    const { mask, align = 0, cached = false } = options as IonAllocOptions;
    // Of JavaScript's own operators bit 31 is the sign.
    checkInteger(mask, 'mask', -(2 ** 31), 0xffffffff, call);
    checkInteger(align, 'align', 0, 2 ** 31, call);
    if (align !== 0 && !Number.isInteger(Math.log2(align)))
      throw outOfRange('align', '0 or a power of two', align, call);
    checkFlag(cached, 'cached', call);
    return { mask: mask >>> 0, align, cached };
  }

  #checkHandle(handle: unknown): void {
    checkInteger(handle, 'handle', 0, MAX_HANDLE, this.#call);
  }

  #fd(buffer: unknown): number {
    if (buffer instanceof DmaBuf) return buffer.fd;
    if (typeof buffer !== 'number') throw invalidType('buffer', 'a DmaBuf or a descriptor', buffer, this.#call);
    checkFd(buffer, 'buffer', 'ioctl');
    return buffer;
  }

  #flush(handle: IonHandle, mapping: Mapping, range: Range, how: keyof typeof flushes): void {
    this.#checkHandle(handle);
    if (!(mapping instanceof Mapping)) throw invalidType('mapping', 'a Mapping', mapping, this.#call);
    const { offset, length } = checkRange(range, mapping.length, mapping.length, 1, this.#call);
    // What a call names has 32 bits.
    checkInteger(mapping.offset + offset + length, 'offset + length', 0, 0xffffffff, this.#call);
    // By close(), or moved out by transfer().
    if (mapping.buffer.byteLength === 0) {
      const details = { errno: -EBADF, ...this.#call };
      throw new DmaBufError(
        'ERR_DMABUF_CLOSED',
        'The mapping is closed, or its memory was moved out of it: map the buffer again',
        details,
      );
    }
    const bytes = new Uint8Array(mapping.buffer, offset, length);
    const device = this.#device.get('ioctl');
    // To the kernel 0 says that a descriptor names the buffer.
    if (handle === 0) throw this.#handleError(-EINVAL, handle);
    const error = native.ionHandleFlush(device, handle, flushes[how], bytes, mapping.offset + offset);
    if (error === -EINVAL && native.ionHandleFlags(device, handle) >= 0) {
      throw this.#error(error, 'The mapping is of another buffer than the handle: map what share() gives.');
    }
    if (error === -ENOMEM) throw this.#error(error, NO_BOUNCE_BUFFERS);
    if (error < 0) throw this.#handleError(error, handle);
  }

  #handleError(error: number, handle: IonHandle) {
    const none = `The client has no handle ${handle}: it was given up, or is another client's, which has to share it.`;
    return this.#error(error, error === -EINVAL ? none : undefined);
  }

  #importError(error: number) {
    const known = { [EINVAL]: NO_BUFFER, [EBADF]: NO_DESCRIPTOR, [ENOSPC]: NO_HANDLES_LEFT };
    return this.#error(error, known[-error]);
  }

  #allocated(id: number, length: number, { mask, align }: Required<IonAllocOptions>): IonHandle {
    if (id >= 0) return id;
    if (id === -ENOSPC) throw this.#error(id, NO_HANDLES_LEFT);
    let advice: string | undefined;
    try {
      advice = IonHeap.adviceOn(id, this.path, mask, length);
    } catch (error) {
      // It says which heaps there are.
      if (id === -ENODEV && (error as NodeJS.ErrnoException).code === 'ENODEV') throw error;
    }
    const aligned =
      align > constants.PAGE_SIZE ? `It is to be at a multiple of ${align} bytes, which may be what fails. ` : '';
    throw this.#error(id, id === -ENOMEM ? `${aligned}${advice ?? memoryAdvice(false)}` : advice);
  }

  #must(error: number, advice?: string): void {
    if (error < 0) throw this.#error(error, advice);
  }

  #error(error: number, advice?: string) {
    return systemError(
      error,
      'ioctl',
      this.path,
      advice ?? descriptorAdvice(error) ?? allocationAdvice(error, this.path, false),
    );
  }
}
