// SPDX-License-Identifier: MIT
import { readFileSync, readlinkSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { type Access, openAccess } from './access.js';
import { accessAdvice, descriptorAdvice, importAdvice, kibibytes, mapAdvice } from './advice.js';
import {
  checkFd,
  checkFlag,
  checkInteger,
  checkOptionNames,
  checkOptions,
  checkPath,
  checkRange,
  type Range,
} from './arguments.js';
import { fits } from './available.js';
import { countCopy } from './copies.js';
import {
  answeredError,
  type Call,
  DmaBufError,
  illegalConstructor,
  invalidType,
  invalidValue,
  outOfRange,
  type SystemError,
  systemError,
} from './errors.js';
import {
  type AccessDirection,
  checkDirection,
  checkWaitOptions,
  directionFlags,
  handleOfSyncFile,
  noSyncFiles,
  ownSyncFile,
  SyncFile,
  type WaitOptions,
  Waits,
} from './fences.js';
import { liveOwners, OwnedHandle } from './handle.js';
import type { HeapTraits } from './heap/choice.js';
import { createMapping, type Mapping } from './mapping.js';
import { type Description, describe, FileKind, type Handle, native } from './native.js';
import { checkPlanes, type Plane, type PlaneOptions, somePlanes } from './planes.js';

const { constants } = native;
const { errno } = osConstants;

/** What is known of the heap a buffer comes from. @internal */
export type Origin = Pick<HeapTraits, 'name' | 'contiguous' | 'protected'>;

/** What is known of a new buffer before the kernel is asked. @internal */
export interface DmaBufOptions {
  /** bytes asked for; default: its size */
  length?: number;
  name?: string;
  /** default: it comes from elsewhere */
  heap?: Origin | undefined;
  planes?: readonly Plane[];
  /** default: what the kernel says of it */
  description?: Description | undefined;
}

/** What is known of a buffer that comes from elsewhere. */
export interface FromFdOptions {
  /** bytes in use, of its {@link DmaBuf.size}, which is the default */
  length?: number;
  /** where the planes of the picture in it lie */
  planes?: readonly PlaneOptions[];
}

/** Options of {@link DmaBuf.toNativePixmap}. */
export interface NativePixmapOptions {
  /** Format modifier of DRM; default 0n, DRM_FORMAT_MOD_LINEAR: rows one after the other. */
  modifier?: bigint;
  /** Whether WebGPU can import it without a copy; default false. */
  supportsZeroCopyWebGpuImport?: boolean;
}

/** `nativePixmap` of Electron's `SharedTextureHandle`, the shape that `sharedTexture.importSharedTexture()` takes. */
export interface NativePixmap {
  /** one for each of the buffer's; bytes */
  planes: {
    /** the buffer's own: good until that is closed */
    fd: number;
    stride: number;
    offset: number;
    size: number;
  }[];
  /** decimal */
  modifier: string;
  /** whether WebGPU can import it without a copy */
  supportsZeroCopyWebGpuImport: boolean;
}

/** Makes a {@link DmaBuf} that owns `handle`, or closes it and throws. @internal */
export let ownDmaBuf: (handle: Handle, options?: DmaBufOptions) => DmaBuf;

const secret = Symbol('dmabuf');

/** The largest number the kernel tells errors by (linux/err.h). */
const MAX_ERRNO = 4095;
/**
 * The buffers of this thread that are neither closed nor given away by {@link DmaBuf.takeFd}, oldest first.
 * {@link dmabufs} lists those of the whole machine.
 */
export function liveBuffers(): DmaBuf[] {
  return liveOwners().filter((owner) => owner instanceof DmaBuf);
}

/**
 * A line of /proc/self/fdinfo of a dma-buf (Documentation/filesystems/proc.rst), `''` where there is none; undefined
 * where it cannot be read now, as without a descriptor left.
 */
function fdinfo(fd: number, key: string): string | undefined {
  try {
    return new RegExp(`^${key}:\\t(.*)$`, 'm').exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '';
  } catch {
    return undefined;
  }
}

function linkOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return `/proc/self/fd/${fd}`;
  }
}

/**
 * What /proc/self/fd shows a buffer as, which has its name: for errors. Reading the link takes longer than making all
 * the rest of a {@link DmaBuf}, so that waits until somebody wants it.
 */
class Link {
  readonly #handle: Handle;
  readonly #fd: number;
  readonly #kind: number;
  readonly #name: string | undefined;
  #text: string | undefined;

  constructor(handle: Handle, { fd, kind }: Description, name: string | undefined) {
    this.#handle = handle;
    this.#fd = fd;
    this.#kind = kind;
    this.#name = name;
  }

  #named(name: string): string {
    return this.#kind === FileKind.dmaBuf ? `/dmabuf:${name}` : `/memfd:${name} (deleted)`;
  }

  toString(): string {
    if (this.#text !== undefined) return this.#text;
    if (this.#name !== undefined) return this.#named(this.#name);
    // The number may be another file's by now.
    if (native.fd(this.#handle) === this.#fd) this.#text = linkOf(this.#fd);
    return this.#text ?? this.#named('');
  }
}

/** What messages call a buffer: few are ever in one, and those that are may be collected. */
class Title {
  constructor(
    readonly name: string | undefined,
    readonly description: Description,
  ) {}

  toString(): string {
    const { size, inode } = this.description;
    return `DmaBuf${this.name ? ` '${this.name}'` : ''} (${size} bytes, inode ${inode})`;
  }
}

/** Whether a call found the descriptor closed, or the number given to another file. */
function isLost(error: number | undefined): boolean {
  return error === -errno.EBADF || error === -errno.ESTALE;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    ((typeof value === 'object' && value !== null) || typeof value === 'function') &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}

/**
 * Owner of one dma-buf file descriptor (or of a sealed memfd that stands in for one).
 *
 * Made by {@link Heap.alloc}, or by {@link DmaBuf.fromFd} from a descriptor that came
 * from elsewhere. Close it when done; one left to the collector is closed with a process
 * warning that names it.
 */
export class DmaBuf implements Disposable {
  /** Bytes asked for; for a buffer from elsewhere its {@link DmaBuf.size}. */
  readonly length: number;
  /** Bytes the kernel reports by `lseek(SEEK_END)`: whole pages. */
  readonly size: number;
  /** Identity: two descriptors with the same inode are one buffer. */
  readonly inode: number;
  /** Whether devices can use it: false for a memfd. */
  readonly dma: boolean;
  /** Where the planes of the picture in it lie, as it was told. */
  readonly planes: readonly Plane[];
  /** what mmap may do with the descriptor: O_RDONLY, O_WRONLY or O_RDWR */
  readonly #mode: number;
  /** what errors call it */
  readonly #link: Link;
  readonly #handle: OwnedHandle;
  readonly #heap: Origin | undefined;
  /** how many brackets of each direction are open, by its flags; made for the first */
  #brackets: number[] | undefined;
  #waits: Waits | undefined;
  #name: string | undefined;
  #exporterName: string | undefined;
  /** what read() and write() show, kept for the next one */
  #view: Mapping | undefined;
  #bytes: Uint8Array<ArrayBuffer> | undefined;

  static {
    ownDmaBuf = (handle, options = {}) => {
      const description = options.description ?? describe(handle);
      if (typeof description === 'number') {
        native.close(handle);
        throw systemError(description, 'fstat');
      }
      return new DmaBuf(secret, handle, description, options);
    };
  }

  private constructor(key: symbol, handle: Handle, description: Description, options: DmaBufOptions = {}) {
    if (key !== secret) throw illegalConstructor('A DmaBuf is made by Heap.alloc() or DmaBuf.fromFd()');
    this.size = description.size;
    this.length = options.length ?? description.size;
    this.inode = description.inode;
    this.dma = description.kind === FileKind.dmaBuf;
    this.planes = options.planes ?? [];
    const writeSeals = constants.F_SEAL_WRITE | constants.F_SEAL_FUTURE_WRITE;
    const { access, seals } = description;
    this.#mode = access === constants.O_RDWR && (seals & writeSeals) !== 0 ? constants.O_RDONLY : access;
    this.#name = options.name;
    this.#heap = options.heap;
    this.#link = new Link(handle, description, options.name);
    const title = new Title(options.name, description);
    this.#handle = new OwnedHandle(this, handle, title, this.#link, true);
  }

  get #path(): string {
    return `${this.#link}`;
  }

  /** For errors about arguments. */
  #call(syscall: string): () => Call {
    return () => ({ syscall, path: this.#path });
  }

  /**
   * Takes over a descriptor that was received, inherited or made by other code. It belongs
   * to the new object; where this throws, it still belongs to the caller.
   *
   * @throws SystemError EBADF: not open
   * @throws DmaBufError ERR_DMABUF_NOT_A_DMABUF: something else, or a memfd that is not
   *   sealed against shrinking (F_SEAL_SHRINK), which its owner could truncate under a mapping
   * @throws TypeError ERR_INVALID_ARG_VALUE: another object of this library owns the number
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE: what the options say does not fit into it
   */
  static fromFd(fd: number, options: FromFdOptions = {}): DmaBuf {
    checkFd(fd, 'fd', 'fstat');
    const path = `/proc/self/fd/${fd}`;
    checkOptions(options, 'options', { syscall: 'fstat', path });
    const handle = native.adopt(fd);
    if (handle === -errno.EBUSY) {
      const reason = `is ${fd}, which belongs to an open object of this library already: use its dup()`;
      throw invalidValue('fd', reason, { syscall: 'fstat', path });
    }
    if (handle < 0) throw systemError(handle, 'fstat', path, 'The descriptor is not open in this process.');
    return DmaBuf.#own(handle, fd, options);
  }

  /** Where this throws, the handle is still the caller's. @internal */
  static fromHandle(handle: Handle): DmaBuf {
    return DmaBuf.#own(handle, undefined, undefined);
  }

  /** @param number - what the caller knows it by, whose it is again where this throws */
  static #own(handle: Handle, number: number | undefined, options: FromFdOptions | undefined): DmaBuf {
    const description = describe(handle);
    const problem = typeof description === 'number' ? 'cannot be examined' : notABuffer(description);
    if (typeof description === 'number' || problem !== undefined) {
      const fd = number ?? native.fd(handle);
      if (number !== undefined) native.release(handle);
      throw new DmaBufError('ERR_DMABUF_NOT_A_DMABUF', `Descriptor ${fd} (${linkOf(fd)}) ${problem}`, {
        errno: typeof description === 'number' ? description : -errno.EINVAL,
        syscall: 'fstatfs',
        path: linkOf(fd),
      });
    }
    try {
      return new DmaBuf(
        secret,
        handle,
        description,
        options &&
          checkFromFd(options, description.size, { syscall: 'fstat', path: `/proc/self/fd/${description.fd}` }),
      );
    } catch (error) {
      if (number !== undefined) native.release(handle);
      throw error;
    }
  }

  /**
   * Whether another object is of the same buffer, by whatever descriptor.
   *
   * @throws TypeError ERR_INVALID_ARG_TYPE
   */
  isSameBuffer(other: DmaBuf): boolean {
    if (!(other instanceof DmaBuf)) throw invalidType('other', 'an instance of DmaBuf', other);
    return this.dma === other.dma && this.inode === other.inode;
  }

  /**
   * The descriptor, which stays this object's: good until {@link DmaBuf.close}.
   * `spawn(…, { stdio: [0, 1, 2, buf.fd] })` hands it to a child.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  get fd(): number {
    return this.#handle.fd('fd');
  }

  /** Whether {@link DmaBuf.close} or {@link DmaBuf.takeFd} was called. */
  get closed(): boolean {
    return this.#handle.closed;
  }

  /** The name it was given (DMA_BUF_SET_NAME), or `''`. */
  get name(): string {
    if (this.#name === undefined && !this.closed) {
      const fd = this.fd;
      this.#name = this.dma ? fdinfo(fd, 'name') : this.#path.replace(/^\/memfd:/, '').replace(/ \(deleted\)$/, '');
    }
    return this.#name ?? '';
  }

  /** The driver that made it, as fdinfo says (`exp_name`); `'memfd'` for a memfd. */
  get exporterName(): string {
    if (this.#exporterName === undefined && !this.closed) {
      this.#exporterName = this.dma ? fdinfo(this.fd, 'exp_name') : 'memfd';
    }
    return this.#exporterName ?? '';
  }

  /**
   * Maps the buffer, or a part of it, for reading and writing.
   *
   * The CPU's view is only in step with devices inside {@link DmaBuf.read} and
   * {@link DmaBuf.write}.
   *
   * @param range - `offset` a multiple of the page size; default: all {@link DmaBuf.length} bytes
   * @throws RangeError ERR_OUT_OF_RANGE
   * @throws SystemError EACCES: the descriptor is read-only; see {@link DmaBuf.copy}
   * @throws SystemError EPERM: it comes from a protected heap, which keeps the CPU out, or is a
   *   memfd that was sealed against writing meanwhile
   * @throws SystemError ENOMEM: no room in the address space, or as many mappings in this process as leave the rest
   *   of it enough (three quarters of vm.max_map_count)
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  map(range: Range = {}): Mapping {
    const checked = this.#checkMap(range);
    try {
      return createMapping(this.#handle.get('mmap'), checked, this.#link, this.dma);
    } catch (error) {
      throw isLost((error as NodeJS.ErrnoException).errno) ? this.#handle.lost('mmap') : error;
    }
  }

  #checkMap(range: Range): Required<Range> {
    this.#handle.get('mmap');
    const checked = checkRange(range, this.size, this.length, constants.PAGE_SIZE, this.#call('mmap'));
    if (this.#mode === constants.O_RDWR) return checked;
    throw systemError(-errno.EACCES, 'mmap', this.#path, accessAdvice(this.#mode === constants.O_WRONLY));
  }

  /**
   * Maps the buffer, or a part of it, as a `SharedArrayBuffer`: `postMessage` gives it to other threads, and
   * `Atomics` work on it. No close() takes it away: the memory stays as long as any thread has it.
   *
   * @param range - as of {@link DmaBuf.map}
   * @throws DmaBufError ERR_DMABUF_UNSUPPORTED: Node.js 20, and 22, 24 and 26 before their later releases, cannot
   * @throws what {@link DmaBuf.map} does
   */
  mapShared(range: Range = {}): SharedArrayBuffer {
    const checked = this.#checkMap(range);
    const mapped = native.mapShared(this.#handle.get('mmap'), checked.offset, checked.length);
    if (typeof mapped !== 'number') return mapped;
    if (isLost(mapped)) throw this.#handle.lost('mmap');
    if (mapped !== -errno.ENOTSUP) throw systemError(mapped, 'mmap', this.#path, mapAdvice(mapped, this.dma));
    throw new DmaBufError(
      'ERR_DMABUF_UNSUPPORTED',
      `Node.js ${process.version} cannot share memory of others between threads: a later one of 22, 24 or 26 can. Give each thread a descriptor instead, by dup() and takeFd()`,
      { errno: mapped, syscall: 'mmap', path: this.#path },
    );
  }

  /**
   * Resolves when no device is at work on the buffer that such an access has to wait for: when its fences are
   * signalled. Waits by poll(2) on the loop of this thread, and keeps the process alive meanwhile. A memfd is always
   * ready.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED, also when it is closed meanwhile
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; SystemError EMFILE; the reason of `signal`
   */
  async ready(direction: AccessDirection, options: WaitOptions = {}): Promise<void> {
    checkDirection(direction, 'poll');
    const signal = checkWaitOptions(options, 'poll');
    this.#handle.fd('poll');
    signal?.throwIfAborted();
    if (!this.dma) return;
    const handle = this.#handle.get('poll');
    const now = native.ready(handle, directionFlags[direction]);
    if (now < 0) throw systemError(now, 'poll', this.#path);
    const event = direction === 'read' ? constants.UV_READABLE : constants.UV_WRITABLE;
    this.#waits ??= new Waits();
    if (now === 0) await this.#waits.wait(handle, event, this.#path, signal);
  }

  /**
   * The fences that such an access has to wait for now, as a descriptor: for Vulkan and the like, or to wait for
   * these and not for later ones.
   *
   * @throws DmaBufError ERR_DMABUF_UNSUPPORTED: a memfd, or a kernel before 6.0; ERR_DMABUF_CLOSED
   * @throws SystemError EMFILE
   */
  exportSyncFile(direction: AccessDirection): SyncFile {
    checkDirection(direction, 'ioctl');
    const handle = native.exportSyncFile(this.#forSyncFiles(), directionFlags[direction]);
    if (handle > 0) return ownSyncFile(handle);
    throw this.#syncFileError(handle);
  }

  /**
   * Makes others wait for a fence as if a device did this to the buffer until it is signalled. The file stays the
   * caller's.
   *
   * @throws DmaBufError ERR_DMABUF_UNSUPPORTED: a memfd, or a kernel before 6.0; ERR_DMABUF_CLOSED
   */
  importSyncFile(file: SyncFile, direction: AccessDirection): void {
    if (!(file instanceof SyncFile)) throw invalidType('file', 'an instance of SyncFile', file, { syscall: 'ioctl' });
    checkDirection(direction, 'ioctl');
    const error = native.importSyncFile(this.#forSyncFiles(), handleOfSyncFile(file), directionFlags[direction]);
    if (error < 0) throw this.#syncFileError(error);
  }

  /**
   * What Electron's `sharedTexture.importSharedTexture()` takes as `handle.nativePixmap`. The descriptor stays this
   * object's, which is to be kept open as long as the texture is in use.
   *
   * @throws DmaBufError ERR_DMABUF_UNSUPPORTED: it was made without {@link DmaBuf.planes}; ERR_DMABUF_CLOSED
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
   */
  toNativePixmap(options: NativePixmapOptions = {}): NativePixmap {
    const call = this.#call('toNativePixmap');
    checkOptions(options, 'options', call);
    checkOptionNames(options, pixmapOptionNames, call);
    const { modifier = 0n, supportsZeroCopyWebGpuImport } = options;
    if (typeof modifier !== 'bigint') throw invalidType('modifier', 'of type bigint', modifier, call);
    if (BigInt.asUintN(64, modifier) !== modifier) throw outOfRange('modifier', 'a number of 64 bits', modifier, call);
    checkFlag(supportsZeroCopyWebGpuImport, 'supportsZeroCopyWebGpuImport', call);
    const { fd } = this;
    const planes = somePlanes(this.planes, this.#handle.what);
    return {
      planes: planes.map(({ offset, stride, length }) => ({ fd, stride, offset, size: length })),
      modifier: String(modifier),
      supportsZeroCopyWebGpuImport: supportsZeroCopyWebGpuImport ?? false,
    };
  }

  /**
   * Calls `fn` with the bytes between DMA_BUF_IOCTL_SYNC start and end for reading, so
   * that it sees what devices wrote. Where `fn` returns a promise, the end comes when that
   * is settled. The bytes are the memory itself, and are not to be kept. Brackets may be nested.
   *
   * @returns what `fn` returns
   * @throws DmaBufError ERR_DMABUF_BUSY where it would have to wait for a device: await {@link DmaBuf.ready} first
   * @throws what {@link DmaBuf.map} does, and what `fn` throws
   */
  read<T>(fn: (bytes: Uint8Array<ArrayBuffer>) => T): T {
    return this.#access('read', fn);
  }

  /**
   * The same for writing: devices see what `fn` wrote.
   *
   * @returns what `fn` returns
   */
  write<T>(fn: (bytes: Uint8Array<ArrayBuffer>) => T): T {
    return this.#access('write', fn);
  }

  /**
   * The same for both.
   *
   * @returns what `fn` returns
   */
  readwrite<T>(fn: (bytes: Uint8Array<ArrayBuffer>) => T): T {
    return this.#access('readwrite', fn);
  }

  /**
   * Waits until no device is in the way, and begins a bracket that lasts until the result is closed: for where it
   * spans more than a callback.
   *
   * @throws what {@link DmaBuf.ready} and {@link DmaBuf.map} do
   */
  async access(direction: AccessDirection, options: WaitOptions = {}): Promise<Access> {
    for (;;) {
      await this.ready(direction, options);
      try {
        return this.accessSync(direction);
      } catch (error) {
        // another device was faster
        if (!(error instanceof DmaBufError && error.code === 'ERR_DMABUF_BUSY')) throw error;
      }
    }
  }

  /**
   * The same without waiting.
   *
   * @throws DmaBufError ERR_DMABUF_BUSY where it would have to wait for a device
   * @throws what {@link DmaBuf.map} does
   */
  accessSync(direction: AccessDirection): Access {
    checkDirection(direction, 'ioctl');
    const flags = directionFlags[direction];
    const bytes = this.#shown(direction);
    this.#begin(flags);
    let ended = false;
    return openAccess({
      direction,
      bytes,
      planes: this.planes,
      what: this.#handle.what,
      open: () => !ended && !this.closed,
      end: (loud) => {
        if (ended) return;
        ended = true;
        this.#end(flags, loud);
      },
    });
  }

  /**
   * A copy of the contents, or of a part of them, in an ordinary `ArrayBuffer`. Works with
   * read-only descriptors too, and with memfds sealed against writing.
   *
   * @param range - default: all {@link DmaBuf.length} bytes
   * @throws RangeError ERR_OUT_OF_RANGE
   * @throws SystemError EPERM: it comes from a protected heap; EACCES: the descriptor is write-only; ENOMEM: there is no
   *   room for a copy, of which large ones are refused where they would leave less than a sixteenth of RAM
   * @throws DmaBufError ERR_DMABUF_BUSY: a device is at work on it; ERR_DMABUF_CLOSED
   */
  copy(range: Range = {}): ArrayBuffer {
    this.#handle.get('mmap');
    const { offset, length } = checkRange(range, this.size, this.length, 1, this.#call('mmap'));
    if (this.#mode === constants.O_WRONLY) {
      throw systemError(-errno.EACCES, 'mmap', this.#path, accessAdvice(this.#mode === constants.O_WRONLY));
    }
    const destination = this.#roomFor(length);
    this.#begin(constants.DMA_BUF_SYNC_READ);
    const error = native.copy(this.#handle.get('mmap'), offset, destination);
    this.#end(constants.DMA_BUF_SYNC_READ, error === 0);
    if (isLost(error)) throw this.#handle.lost('mmap');
    if (error < 0) throw systemError(error, 'mmap', this.#path, mapAdvice(error, this.dma));
    countCopy(length);
    return destination;
  }

  #roomFor(length: number): ArrayBuffer {
    if (fits(length, true)) {
      try {
        return new ArrayBuffer(length);
      } catch {
        // more than V8 gets
      }
    }
    const advice = `This process has no room for a copy of ${kibibytes(length)}: copy a part of it at a time, or map it.`;
    throw systemError(-errno.ENOMEM, 'malloc', this.#path, advice);
  }

  /**
   * The error for a driver that was given the buffer and did not take it; its message says why, as far as that lies
   * in the buffer: a heap of scattered pages where the driver wants one piece of memory, a protected heap where it
   * uses the CPU. For code that hands buffers to drivers (V4L2_MEMORY_DMABUF, DRM PRIME).
   *
   * @param errno - negative: what the driver answered, such as -14 (EFAULT), which is what V4L2 has for both
   * @param path - the driver's device
   * @throws RangeError ERR_OUT_OF_RANGE: no errno; TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  importError(errno: number, path: string, syscall = 'ioctl'): SystemError {
    checkInteger(errno, 'errno', -MAX_ERRNO, -1);
    if (typeof syscall !== 'string') throw invalidType('syscall', 'of type string', syscall);
    checkPath(path, 'path', syscall);
    return answeredError(errno, syscall, path, importAdvice(errno, this.dma, this.size, this.#heap));
  }

  /**
   * Another owner of another descriptor of the same buffer.
   *
   * @throws SystemError EMFILE: no descriptor left
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  dup(): DmaBuf {
    const handle = native.duplicate(this.#handle.get('fcntl'));
    if (isLost(handle)) throw this.#handle.lost('fcntl');
    if (handle < 0) throw systemError(handle, 'fcntl', this.#path, descriptorAdvice(handle));
    const name = this.#name === undefined ? {} : { name: this.#name };
    return ownDmaBuf(handle, { length: this.length, heap: this.#heap, planes: this.planes, ...name });
  }

  /**
   * The descriptor, which belongs to the caller from now on: this object is closed.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  takeFd(): number {
    this.#handle.fd('takeFd');
    this.#finish();
    const number = this.#handle.release('takeFd');
    this.#cancel();
    return number;
  }

  /**
   * Ends brackets that are open and closes the descriptor. May be called twice. Mappings
   * made by {@link DmaBuf.map} go on until they are closed themselves.
   */
  close(): void {
    if (this.closed) return;
    this.#finish();
    this.#handle.close();
    this.#cancel();
  }

  /** The same as {@link DmaBuf.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #finish(): void {
    this.#brackets?.forEach((count, flags) => {
      for (let left = count; left > 0; left--) this.#end(flags, false);
    });
    this.#view?.close();
    this.#view = undefined;
    this.#bytes = undefined;
  }

  /** After the descriptor is gone: what is told of it may run at once. */
  #cancel(): void {
    this.#waits?.cancel(() => this.#handle.isClosed('poll'));
  }

  #shown(operation: string): Uint8Array<ArrayBuffer> {
    // Beginning a bracket checks the descriptor of a dma-buf.
    if (!this.dma) this.#handle.fd(operation);
    else this.#handle.get(operation);
    const bytes = this.#bytes;
    if (bytes !== undefined && bytes.length > 0) return bytes;
    // empty: script has detached it
    const view = this.map();
    this.#view = view;
    this.#bytes = new Uint8Array(view.buffer, 0, Math.min(this.length, view.length));
    return this.#bytes;
  }

  #begin(flags: number): void {
    if (!this.dma) return;
    const error = native.sync(this.#handle.get('ioctl'), flags | constants.DMA_BUF_SYNC_START);
    if (error < 0) throw this.#beginError(error, flags);
    // Calls nothing, so that a full stack leaves no bracket that is not counted.
    this.#brackets ??= [0, 0, 0, 0];
    this.#brackets[flags] = (this.#brackets[flags] ?? 0) + 1;
  }

  #open(flags: number): number {
    return this.#brackets?.[flags] ?? 0;
  }

  /** Ends a bracket, unless closing the buffer has; `loud` where nothing else is being thrown. */
  #end(flags: number, loud: boolean): void {
    if (!this.dma || this.closed) return;
    (this.#brackets as number[])[flags] = this.#open(flags) - 1;
    const error = native.sync(this.#handle.get('ioctl'), flags | constants.DMA_BUF_SYNC_END);
    if (error < 0 && loud) throw this.#syncError(error);
  }

  #beginError(error: number, flags: number): Error {
    if (error !== -errno.EBUSY) return this.#syncError(error);
    const direction = Object.keys(directionFlags).find((each) => directionFlags[each as AccessDirection] === flags);
    return new DmaBufError(
      'ERR_DMABUF_BUSY',
      `A device is at work on ${this.#handle.what}: await ready('${direction}') first`,
      { errno: error, syscall: 'poll', path: this.#path },
    );
  }

  #syncError(error: number): Error {
    if (isLost(error)) return this.#handle.lost('ioctl');
    return systemError(error, 'ioctl', this.#path, 'DMA_BUF_IOCTL_SYNC was refused by the exporter.');
  }

  #forSyncFiles(): Handle {
    this.#handle.fd('ioctl');
    if (this.dma) return this.#handle.get('ioctl');
    throw new DmaBufError('ERR_DMABUF_UNSUPPORTED', 'A memfd has no fences: no device is ever at work on it', {
      errno: -errno.ENOTSUP,
      syscall: 'ioctl',
      path: this.#path,
    });
  }

  #syncFileError(error: number): Error {
    if (error === -errno.ENOTTY) return noSyncFiles(this.#path);
    return systemError(error, 'ioctl', this.#path, descriptorAdvice(error));
  }

  #access<T>(direction: AccessDirection, fn: (bytes: Uint8Array<ArrayBuffer>) => T): T {
    if (typeof fn !== 'function') throw invalidType('fn', 'of type function', fn);
    const flags = directionFlags[direction];
    const bytes = this.#shown(direction);
    const handle = this.#handle.get('ioctl');
    this.#begin(flags);
    let result: T;
    let pending = false;
    let error = 0;
    try {
      result = fn(bytes);
      if (isThenable(result)) {
        const settled = this.#settle(flags, result) as T;
        pending = true;
        return settled;
      }
    } finally {
      // No function of JavaScript is called: one would not even begin where the stack is full, and leave it open.
      if (!pending && this.dma) {
        const brackets = this.#brackets as number[];
        brackets[flags] = (brackets[flags] ?? 0) - 1;
        error = native.sync(handle, flags | constants.DMA_BUF_SYNC_END);
      }
    }
    // Closing the buffer has ended it.
    if (error < 0 && !this.closed) throw this.#syncError(error);
    return result;
  }

  async #settle<T>(flags: number, pending: PromiseLike<T>): Promise<T> {
    let result: T;
    try {
      result = await pending;
    } catch (error) {
      this.#end(flags, false);
      throw error;
    }
    this.#end(flags, true);
    return result;
  }
}

const pixmapOptionNames = ['modifier', 'supportsZeroCopyWebGpuImport'] satisfies (keyof NativePixmapOptions)[];

function checkFromFd(options: FromFdOptions, size: number, call: Call): DmaBufOptions {
  checkOptionNames(options, ['length', 'planes'] satisfies (keyof FromFdOptions)[], call);
  const { length = size, planes } = options;
  checkInteger(length, 'length', 1, size, call);
  return { length, planes: checkPlanes(planes, size, length, call) };
}

function notABuffer(description: Description): string | undefined {
  if (description.kind === FileKind.dmaBuf) return undefined;
  if (description.kind !== FileKind.memfd)
    return 'is no dma-buf: pass one that an exporter, a heap or another process gave';
  if ((description.seals & constants.F_SEAL_SHRINK) === 0) {
    return 'is a memfd without F_SEAL_SHRINK: whoever made it could truncate it under a mapping, which kills the process. Seal it first';
  }
  if (description.size === 0) return 'is an empty memfd';
  if (!Number.isSafeInteger(description.size)) return 'is a memfd of more bytes than a number can count';
  return undefined;
}
