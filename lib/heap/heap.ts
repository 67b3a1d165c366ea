// SPDX-License-Identifier: MIT
import { readlinkSync, statSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { join } from 'node:path';
import { allocationAdvice, memoryAdvice, openAdvice, shortageAdvice } from '../advice.js';
import { checkFlag, checkLength, checkName, checkOptionNames, checkOptions } from '../arguments.js';
import { leftAdvice } from '../available.js';
import { type DmaBuf, type Origin, ownDmaBuf } from '../dmabuf.js';
import { type Call, DmaBufError, illegalConstructor, systemError } from '../errors.js';
import { OwnedHandle } from '../handle.js';
import { wholePages } from '../mapping.js';
import { type Description, describe, type Handle, native } from '../native.js';
import { checkPlanes, type Plane, type PlaneOptions } from '../planes.js';
import type { HeapTraits, IonHeapType } from './choice.js';
import { type DeviceLimit, type HeapStats, ifReadable, readLimit, readStats } from './stats.js';

/** What buffers are allocated from. */
export type HeapKind = 'ion' | 'dma-heap' | 'cma-mem' | 'udmabuf' | 'memfd';

/** Options of {@link Heap.alloc}. */
export interface AllocOptions {
  /** shown by the kernel in fdinfo; at most 31 bytes of UTF-8 */
  name?: string;
  /** whether CPU mappings are cached; default true. Not cached is write-combined; on x86 all is cached. */
  cached?: boolean;
  /** where the planes of a picture lie in it: {@link DmaBuf.planes} */
  planes?: readonly PlaneOptions[];
}

/** An allocation whose arguments are right. @internal */
export interface Request {
  length: number;
  name: string;
  cached: boolean;
  planes: readonly Plane[];
}

/** What the classes of heaps know, and scripts do not. @internal */
export const heapSecret = Symbol('heap');

/** The same, where the caller knows it. @internal */
export function admitted(key: symbol): symbol {
  if (key !== heapSecret) throw illegalConstructor('A Heap is made by openHeap()');
  return key;
}

/**
 * Something buffers are allocated from: one interface for every kind. Made by
 * `openHeap()`.
 *
 * Closing a heap leaves its buffers alone.
 */
export abstract class Heap implements Disposable, HeapTraits {
  /** What kind of heap it is. */
  abstract readonly kind: HeapKind;
  /** What `openHeap()` opens; `'memfd'` for that kind. */
  readonly path: string;
  /** The heap's own name, such as `'ion_system_heap'`; those of several are joined by `+`. */
  readonly name: string;
  /** Whether a buffer is one piece of physical memory. */
  readonly contiguous: boolean;
  /** Whether devices can use the buffers: false for `memfd`. */
  readonly dma: boolean = true;
  /**
   * Whether only devices may use the buffers: {@link DmaBuf.map} and the like fail with EPERM. Of several heaps:
   * whether one of them is so, and a buffer may be.
   */
  readonly protected: boolean;
  /** Whether `cached: false` can be asked for; on x86 all is cached even then. */
  readonly uncached: boolean;
  /** One heap of ION has it: its bit in a mask. */
  declare readonly id?: number;
  /** What memory one heap of ION hands out. */
  declare readonly type?: IonHeapType;
  /** What its buffers know of it: not the heap itself, which would live as long as they do. */
  readonly #origin: Origin;

  /** @internal */
  protected constructor(key: symbol, path: string, traits: HeapTraits) {
    admitted(key);
    this.path = path;
    this.name = traits.name;
    this.contiguous = traits.contiguous;
    this.protected = traits.protected;
    this.uncached = traits.uncached;
    this.#origin = { name: traits.name, contiguous: traits.contiguous, protected: traits.protected };
    if (traits.id !== undefined) this.id = traits.id;
    if (traits.type !== undefined) this.type = traits.type;
  }

  /**
   * Allocates a zeroed buffer on the thread pool.
   *
   * @param length - bytes; the kernel rounds them up to whole pages, see {@link DmaBuf.size}
   * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE: wrong arguments,
   *   more than the memory of this machine, a name longer than the kernel takes; TypeError ERR_INVALID_ARG_VALUE:
   *   an option there is not
   * @throws SystemError ENOMEM and what else the kernel answers. Heaps whose kernel side would rather end
   *   a process than refuse (memfd, udmabuf, dma-heaps that are not known to be contiguous) are asked for no
   *   more than is available with a sixteenth of RAM left; swap is not counted
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

  /**
   * What is allocated from the heap, by all processes, as the kernel module counts it (sysfs).
   * {@link heapStats} tells it of all heaps to those, too, who may not open them.
   *
   * @throws SystemError EMFILE and the like
   * @throws DmaBufError ERR_DMABUF_UNSUPPORTED where nothing is counted: memfd, udmabuf, the
   *   kernel's own dma-heaps, several heaps at once; ERR_DMABUF_CLOSED
   */
  stats(): HeapStats {
    const stats = this.figures();
    if (stats !== undefined) return stats;
    throw new DmaBufError(
      'ERR_DMABUF_UNSUPPORTED',
      `No figures are kept of the heap ${this.name}: a single heap of ion, cma-mem and the dma-heaps of ion_lite have them`,
      { errno: -osConstants.errno.ENOTSUP, syscall: 'read', path: this.path },
    );
  }

  /** May be called twice. */
  abstract close(): void;

  /** The same as {@link Heap.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal */
  protected figures(): HeapStats | undefined {
    return undefined;
  }

  /** @internal */
  protected abstract start(request: Request): Promise<Handle>;
  /** @internal */
  protected abstract startSync(request: Request): Handle;
  /** Names the buffer, where it did not get its name when it was made. @internal */
  protected abstract nameBuffer(handle: Handle, name: string): number;

  /** What a new buffer is, where that is known without asking the kernel. @internal */
  protected describe(_handle: Handle, _length: number): Description | undefined {
    return undefined;
  }

  /** What to do where the kernel has refused. @internal */
  protected advice(error: number, length: number): string | undefined {
    return allocationAdvice(error, this.path, this.contiguous, leftAdvice(length));
  }

  #check(length: unknown, options: unknown): Request {
    const call = this.#call;
    checkLength(length, 'length', call);
    checkOptions(options, 'options', call);
    checkOptionNames(options, ['name', 'cached', 'planes'] satisfies (keyof AllocOptions)[], call);
    const { name, cached, planes } = options as AllocOptions;
    checkName(name, 'name', call);
    checkFlag(cached, 'cached', call);
    if (cached === false && !this.uncached) {
      throw new DmaBufError(
        'ERR_DMABUF_UNSUPPORTED',
        `The heap ${this.name} has cached memory only: leave out cached: false, or use ion or cma-mem`,
        { ...call, errno: -osConstants.errno.ENOTSUP },
      );
    }
    const checked = checkPlanes(planes, wholePages(length), length, call);
    return { length, name: name ?? '', cached: cached ?? true, planes: checked };
  }

  /** What allocating is, in errors. */
  get #call(): Call {
    return { syscall: this.dma ? 'ioctl' : 'memfd_create', path: this.path };
  }

  #finish(handle: Handle, { length, name, planes }: Request): DmaBuf {
    if (handle < 0) {
      const { syscall } = this.#call;
      throw systemError(handle, syscall, this.path, this.advice(handle, length));
    }
    const error = name === '' ? 0 : this.nameBuffer(handle, name);
    if (error < 0) {
      native.close(handle);
      throw systemError(error, 'ioctl', this.path, 'DMA_BUF_SET_NAME was refused.');
    }
    const heap = this.#origin;
    return ownDmaBuf(handle, { length, name, heap, planes, description: this.describe(handle, length) });
  }
}

/** The path of a device below /sys/devices, wherever its node lies. @internal */
export function sysfsDevice(path: string): string | undefined {
  try {
    const status = statSync(path);
    const major = ((status.rdev >> 8) & 0xfff) >>> 0;
    const minor = ((status.rdev & 0xff) | ((status.rdev >> 12) & 0xfff00)) >>> 0;
    return status.isCharacterDevice() ? readlinkSync(`/sys/dev/char/${major}:${minor}`) : undefined;
  } catch {
    return undefined;
  }
}

/** Opens a device node, with advice where that fails. @internal */
export function openDevice(path: string, flags: number): Handle {
  const handle = native.open(path, flags);
  if (handle < 0) throw systemError(handle, 'open', path, openAdvice(handle, path));
  const description = describe(handle);
  if (typeof description === 'number' || description.deviceMajor < 0) {
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

/** The folder of sysfs that is about an open device, whatever its node is called. @internal */
export function sysfsFolder(device: Handle): string {
  const description = describe(device);
  const number = typeof description === 'number' ? 'none' : `${description.deviceMajor}:${description.deviceMinor}`;
  return join('/sys/dev/char', number);
}

/**
 * What to do where a device has refused to allocate.
 *
 * @param limit - of the module, which may be the reason
 * @param memory - says what there is where it is not
 * @internal
 */
export function deviceAdvice(
  error: number,
  length: number,
  path: string,
  limit: () => DeviceLimit | undefined,
  memory: (size: number) => string,
): string | undefined {
  if (error !== -osConstants.errno.ENOMEM) return allocationAdvice(error, path, false);
  const size = wholePages(length);
  return shortageAdvice(size, ifReadable(limit), () => memory(size));
}

/** A heap behind a device node. @internal */
export abstract class DeviceHeap extends Heap {
  /** The open device. @internal */
  protected readonly device: OwnedHandle;
  /** Of the device. @internal */
  protected readonly sysfs: string;

  /** @internal */
  protected constructor(key: symbol, handle: Handle, path: string, traits: HeapTraits) {
    super(key, path, traits);
    this.device = new OwnedHandle(this, handle, `Heap ${path}`, path);
    this.sysfs = sysfsFolder(handle);
  }

  /** Where the figures of this heap are. @internal */
  protected get figuresFolder(): string {
    return join(this.sysfs, 'heap0');
  }

  /** The device whose limit it has. @internal */
  protected get limitFolder(): string {
    return this.sysfs;
  }

  protected override figures(): HeapStats | undefined {
    this.device.get('read');
    return readStats(this.figuresFolder, this.limitFolder);
  }

  /** The limit of its module, where it is one of ours. @internal */
  protected limit(): DeviceLimit | undefined {
    return readLimit(this.limitFolder);
  }

  /** How much memory there is for so many bytes. @internal */
  protected memory(_size: number): string {
    return memoryAdvice(this.contiguous);
  }

  protected override advice(error: number, length: number): string | undefined {
    return deviceAdvice(
      error,
      length,
      this.path,
      () => this.limit(),
      (size) => this.memory(size),
    );
  }

  override close(): void {
    this.device.close();
  }

  protected override nameBuffer(handle: Handle, name: string): number {
    return native.setName(handle, name);
  }
}
