// SPDX-License-Identifier: MIT
import { readlinkSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { allocationAdvice, descriptorAdvice } from './advice.js';
import {
  checkFd,
  checkFlag,
  checkInteger,
  checkLength,
  checkName,
  checkOptionNames,
  checkOptions,
  checkPath,
  checkRange,
  type Range,
} from './arguments.js';
import { type DmaBuf, ownDmaBuf } from './dmabuf.js';
import {
  type Call,
  DmaBufError,
  illegalConstructor,
  invalidType,
  invalidValue,
  outOfRange,
  type SystemError,
  systemError,
} from './errors.js';
import { OwnedHandle } from './handle.js';
import { CMA_MEM_PATH, cmaMemoryAdvice, cmaMemTraits } from './heap/cma-mem.js';
import { type AllocOptions, deviceAdvice, openDevice, sysfsFolder } from './heap/heap.js';
import { readLimit } from './heap/stats.js';
import { createMapping, type Mapping, wholePages } from './mapping.js';
import { type CmaRegion, type CmaTotals, type Handle, native, type OrErrno } from './native.js';

export type { CmaTotals } from './native.js';

const { constants } = native;
const { EACCES, EBADF, EBUSY, EINVAL, EPERM } = osConstants.errno;

const secret = Symbol('cma-mem');

/** `struct cmamem_info` has 32 bits for a length. */
const MAX_REGION = 0xffffffff;

const READ_ONLY =
  'The device was opened read-only, and JavaScript has no read-only memory: export() and DmaBuf.copy() read the region.';

const A_VIEW = 'It shows the regions of another file (connect()): they are allocated by the file they belong to.';

interface Device {
  handle: OwnedHandle;
  path: string;
  /** its folder there */
  sysfs: string;
  /** which a region so keeps from the collector */
  owner: CmaMem;
}

/** Options of {@link CmaMem.allocate}. */
export type RegionOptions = Pick<AllocOptions, 'name' | 'cached'>;

/** Options of {@link Region.export}. */
export interface ExportOptions extends Pick<AllocOptions, 'name'> {
  /** makes the dma-buf's descriptor O_RDONLY: it has {@link DmaBuf.copy}, and no mappings; default false */
  readonly?: boolean;
}

/**
 * A region of {@link CmaMem}: contiguous memory that belongs to the open device it was allocated by. Its memory lives
 * until the region is given up or that device is closed, and then as long as there is a mapping or a dma-buf of it.
 */
export class Region implements Disposable {
  /** The region's number in its device. */
  readonly id: number;
  /** What mmap of the device takes, in bytes. */
  readonly offset: number;
  /** Bytes asked for. */
  readonly length: number;
  /** Bytes, whole pages. */
  readonly size: number;
  /** Physical address (CMEM_GET_PHYS); 0 without CAP_SYS_RAWIO. */
  readonly physicalBase: number;
  readonly #device: Device;
  #closed = false;

  /** @internal */
  constructor(key: symbol, device: Device, region: CmaRegion) {
    if (key !== secret) throw illegalConstructor('A Region is made by CmaMem.allocate() or CmaMem.region()');
    const { id, offset, length, physicalBase } = region;
    this.#device = device;
    this.id = id;
    this.offset = offset;
    this.length = length;
    this.size = wholePages(length);
    this.physicalBase = physicalBase;
  }

  /** Whether {@link Region.close} was called. */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Maps the region, or a part of it, through the device.
   *
   * @param range - inside the region; default: all {@link Region.length} bytes
   * @throws RangeError ERR_OUT_OF_RANGE
   * @throws DmaBufError ERR_DMABUF_CLOSED: the region or the {@link CmaMem} was closed
   * @throws SystemError EINVAL: the region was given up by another object that has the same file; EACCES: the
   *   {@link CmaMem} was made of a descriptor that is not O_RDWR
   */
  map(range: Range = {}): Mapping {
    const device = this.#get('mmap');
    const { path } = this.#device;
    const { offset, length } = checkRange(range, this.size, this.length, constants.PAGE_SIZE, {
      syscall: 'mmap',
      path,
    });
    let mapping: Mapping;
    try {
      mapping = createMapping(device, { offset, length, base: this.offset }, path);
    } catch (error) {
      const { errno } = error as SystemError;
      if (errno === -EINVAL) throw this.#error(-EINVAL, 'mmap');
      if (errno === -EACCES) throw systemError(-EACCES, 'mmap', path, READ_ONLY);
      throw error;
    }
    // Another region may have the offset of one that was given up; numbers are used again only after all others.
    const size = native.cmaSize(device, this.id);
    if (size >= 0) return mapping;
    mapping.close();
    throw this.#error(size, 'mmap');
  }

  /**
   * The region as a dma-buf (CMEM_IOC_EXPORT), which keeps the memory.
   *
   * @throws SystemError EINVAL: given up by another; EMFILE
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  export(options: ExportOptions = {}): DmaBuf {
    const device = this.#get('ioctl');
    const { path } = this.#device;
    const call = { syscall: 'ioctl', path };
    checkOptions(options, 'options', call);
    checkOptionNames(options, ['name', 'readonly'] satisfies (keyof ExportOptions)[], call);
    const { name, readonly = false } = options;
    checkName(name, 'name', call);
    checkFlag(readonly, 'readonly', call);
    const buffer = native.cmaExport(device, this.id, readonly);
    if (buffer < 0) throw this.#error(buffer);
    const error = name === undefined || name === '' ? 0 : native.setName(buffer, name);
    if (error < 0) {
      native.close(buffer);
      throw systemError(error, 'ioctl', path, 'DMA_BUF_SET_NAME was refused.');
    }
    return ownDmaBuf(buffer, { length: this.length, heap: cmaMemTraits, ...(name === undefined ? {} : { name }) });
  }

  /**
   * Writes back what the CPU wrote to a cached region, and lets it see what devices wrote (CMEM_CACHE_FLUSH). Devices
   * that have a dma-buf of it are kept in step with all of it. Of a region that is not cached nothing is cached.
   *
   * @param range - bytes of the region; default: all {@link Region.length} of them; from an offset beyond these the
   *   rest of the last page
   * @throws RangeError ERR_OUT_OF_RANGE
   * @throws SystemError EINVAL: given up by another
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  flush(range: Range = {}): void {
    const device = this.#get('ioctl');
    const call = { syscall: 'ioctl', path: this.#device.path };
    const { offset, length } = checkRange(range, this.size, this.length, 1, call);
    const error = native.cmaFlush(device, this.id, offset, length);
    if (error < 0) throw this.#error(error);
  }

  /**
   * Gives the region up (CMEM_UNMAP): its mappings and dma-bufs go on. Of a region that is another file's
   * ({@link CmaMem.connect}) only this object ends. May be called twice.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const { handle } = this.#device;
    // -EPERM: another file's. -EINVAL: given up already.
    if (!handle.closed) native.cmaUnmap(handle.get('ioctl'), this.id);
  }

  /** The same as {@link Region.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #get(syscall: string): Handle {
    const { handle, path } = this.#device;
    if (!this.#closed) return handle.get(syscall);
    const message = `Region ${this.id} of ${path} is closed: close it after its last use, or allocate another`;
    throw new DmaBufError('ERR_DMABUF_CLOSED', message, { errno: -EBADF, syscall, path });
  }

  #error(error: number, syscall = 'ioctl'): SystemError {
    const { path } = this.#device;
    const gone = 'The region was given up by another object that has its file, or that file was closed.';
    return systemError(error, syscall, path, error === -EINVAL ? gone : allocationAdvice(error, path, false));
  }
}

/**
 * /dev/cma_mem: regions of contiguous memory that are mapped through the device and
 * exported as dma-bufs. All of them belong to the open file.
 *
 * Where only dma-bufs are wanted, `openHeap('cma-mem')` makes them in one step.
 */
export class CmaMem implements Disposable {
  /** The device, as it was opened; of a descriptor that was taken over what /proc/self/fd shows. */
  readonly path: string;
  readonly #device: Device;

  private constructor(key: symbol, device: Handle, path: string) {
    if (key !== secret) throw illegalConstructor('A CmaMem is made by CmaMem.open() or CmaMem.fromFd()');
    this.path = path;
    const handle = new OwnedHandle(this, device, `CmaMem ${path}`, path);
    this.#device = { handle, path, sysfs: sysfsFolder(device), owner: this };
  }

  /**
   * Opens the device, for reading and writing.
   *
   * @param path - default `/dev/cma_mem`
   * @throws SystemError ENOENT (module not loaded), EACCES; ENOTTY: another device, or none
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  static open(path: string = CMA_MEM_PATH): CmaMem {
    checkPath(path, 'path', 'open');
    const handle = openDevice(path, constants.O_RDWR);
    const totals = native.cmaTotals(handle);
    if (typeof totals !== 'number') return new CmaMem(secret, handle, path);
    native.close(handle);
    throw systemError(totals, 'ioctl', path, allocationAdvice(totals, path, true));
  }

  /**
   * Takes over a descriptor of /dev/cma_mem that was received or inherited. Whoever sent it has the same open file, and
   * so have both the same regions, to allocate and to give up; {@link CmaMem.connect} gives less. Where this throws,
   * the descriptor still belongs to the caller.
   *
   * @throws SystemError EBADF: not open; ENOTTY: something else
   * @throws TypeError ERR_INVALID_ARG_VALUE: another object of this library owns the number
   */
  static fromFd(fd: number): CmaMem {
    checkFd(fd, 'fd', 'fstat');
    const handle = native.adopt(fd);
    if (handle === -EBUSY) {
      throw invalidValue('fd', `is ${fd}, which belongs to an open object of this library already`, {
        syscall: 'fstat',
      });
    }
    const path = `/proc/self/fd/${fd}`;
    if (handle < 0) throw systemError(handle, 'fstat', path, 'The descriptor is not open in this process.');
    const totals = native.cmaTotals(handle);
    if (typeof totals === 'number') {
      native.release(handle);
      throw systemError(totals, 'ioctl', path, `It is no descriptor of ${CMA_MEM_PATH}.`);
    }
    return new CmaMem(secret, handle, readlinkSync(path));
  }

  /**
   * The descriptor, which stays this object's: for {@link CmaMem.connect} in another process, to which
   * {@link FdSocket.send} or `spawn(…, { stdio })` takes it.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  get fd(): number {
    return this.#device.handle.fd('fd');
  }

  /**
   * A new, zeroed region (CMEM_ALLOCATE), made on the thread pool.
   *
   * @param length - bytes, at most 4 GiB - 1
   * @throws as {@link Heap.alloc}
   * @throws SystemError EPERM: it shows another file's regions
   */
  async allocate(length: number, options: RegionOptions = {}): Promise<Region> {
    const { cached, name } = this.#check(length, options);
    const region = await native.cmaAllocate(this.#device.handle.get('ioctl'), length, cached, name);
    // Closed meanwhile: the file is gone, and its regions with it.
    this.#device.handle.get('ioctl');
    return this.#finish(region, length);
  }

  /** The same, blocking. */
  allocateSync(length: number, options: RegionOptions = {}): Region {
    const { cached, name } = this.#check(length, options);
    return this.#finish(native.cmaAllocateSync(this.#device.handle.get('ioctl'), length, cached, name), length);
  }

  /**
   * A region by its {@link Region.id}, as whoever has allocated it tells it (CMEM_MAP, CMEM_GET_PHYS).
   *
   * @throws SystemError EINVAL: there is none, or it was given up
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  region(id: number): Region {
    checkInteger(id, 'id', 0, 0xffffffff, this.#call);
    const region = native.cmaRegion(this.#device.handle.get('ioctl'), id);
    if (typeof region !== 'number') return new Region(secret, this.#device, region);
    const none = `It has no region ${id}: it was given up, or is another file's.`;
    throw systemError(region, 'ioctl', this.path, region === -EINVAL ? none : descriptorAdvice(region));
  }

  /**
   * Shows the regions of another file from now on, those to come too (CMEM_CONNECT): {@link CmaMem.region} finds them.
   * They can be mapped, written and exported; allocated and given up only by their own file, and when that is closed
   * there are none. This file must have no regions, and shows no others later.
   *
   * @param owner - of the regions, or a descriptor of it, which stays the caller's; where it shows another's regions
   *   itself, these
   * @throws SystemError EBADF; EINVAL: no /dev/cma_mem, this file, or one that shows this one's regions; EBUSY: this
   *   file has regions, or is connected
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  connect(owner: CmaMem | number): void {
    const device = this.#device.handle.get('ioctl');
    if (!(owner instanceof CmaMem) && typeof owner !== 'number') {
      throw invalidType('owner', 'a CmaMem or a descriptor', owner, this.#call);
    }
    if (typeof owner === 'number') checkFd(owner, 'owner', 'ioctl');
    const error = native.cmaConnect(device, typeof owner === 'number' ? owner : owner.fd);
    const known = {
      [EBADF]: 'This process has no such descriptor.',
      [EINVAL]: `It is no ${CMA_MEM_PATH}, or shows the regions of this file itself.`,
      [EBUSY]: 'This file has regions or is connected already: connect another one that is freshly opened.',
    };
    if (error < 0) throw systemError(error, 'ioctl', this.path, known[-error]);
  }

  /**
   * How much there is, for all processes together (CMEM_GET_TOTAL_SIZE).
   *
   * @returns bytes: `total`, the smaller of `max_bytes` and what was free when the module was loaded, of CMA or of the
   *   device tree's region; `free`, what of that is not handed out. Where there is no CMA only `max_bytes` counts.
   *   More than 4 GiB - 1 are not told.
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  totals(): CmaTotals {
    const totals = native.cmaTotals(this.#device.handle.get('ioctl'));
    if (typeof totals === 'number') throw systemError(totals, 'ioctl', this.path, descriptorAdvice(totals));
    return totals;
  }

  /** May be called twice. Regions live on in their mappings and dma-bufs only. */
  close(): void {
    this.#device.handle.close();
  }

  /** The same as {@link CmaMem.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  get #call(): Call {
    return { syscall: 'ioctl', path: this.path };
  }

  #check(length: unknown, options: unknown): { cached: boolean; name: string } {
    const call = this.#call;
    checkLength(length, 'length', call);
    if (length > MAX_REGION) throw outOfRange('length', `at most ${MAX_REGION}`, length, call);
    checkOptions(options, 'options', call);
    checkOptionNames(options, ['name', 'cached'] satisfies (keyof RegionOptions)[], call);
    const { cached, name } = options as RegionOptions;
    checkFlag(cached, 'cached', call);
    checkName(name, 'name', call);
    return { cached: cached ?? true, name: name ?? '' };
  }

  #finish(region: OrErrno<CmaRegion>, length: number): Region {
    if (typeof region !== 'number') return new Region(secret, this.#device, { ...region, length });
    const { path, sysfs } = this.#device;
    const advice = deviceAdvice(
      region,
      length,
      path,
      () => readLimit(sysfs),
      (size) => cmaMemoryAdvice(sysfs, size),
    );
    throw systemError(region, 'ioctl', path, region === -EPERM ? A_VIEW : advice);
  }
}
