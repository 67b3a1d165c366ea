// SPDX-License-Identifier: MIT
import { allocationAdvice, memoryAdvice } from './advice.js';
import { checkFlag, checkLength, checkName, checkOptions, checkPath, checkRange, type Range } from './arguments.js';
import { type DmaBuf, ownDmaBuf } from './dmabuf.js';
import { outOfRange, systemError } from './errors.js';
import { OwnedHandle } from './handle.js';
import { CMA_MEM_PATH } from './heap/cma-mem.js';
import { type AllocOptions, deviceAdvice, openDevice, sysfsFolder } from './heap/heap.js';
import { readLimit } from './heap/stats.js';
import { createMapping, type Mapping, wholePages } from './mapping.js';
import { type CmaRegion, type Handle, native, type OrErrno } from './native.js';

const { constants } = native;

const secret = Symbol('cma-mem');

/** `struct cmamem_info` has 32 bits for a length. */
const MAX_REGION = 0xffffffff;

interface Device {
  handle: OwnedHandle;
  path: string;
  /** its folder there */
  sysfs: string;
  /** which a region so keeps from the collector */
  owner: CmaMem;
}

/**
 * A region of {@link CmaMem}: contiguous memory that belongs to the open device, as long
 * as that, a mapping or a dma-buf of it is there.
 */
export class Region {
  /** The region's number in its device. */
  readonly id: number;
  /** What mmap of the device takes, in bytes. */
  readonly offset: number;
  /** Bytes asked for. */
  readonly length: number;
  /** Bytes, whole pages. */
  readonly size: number;
  /** Physical address; 0 without CAP_SYS_RAWIO. */
  readonly physicalBase: number;
  readonly #device: Device;

  /** @internal */
  constructor(key: symbol, device: Device, { id, offset, length, physicalBase }: CmaRegion) {
    if (key !== secret) throw new TypeError('A Region is made by CmaMem.allocate()');
    this.#device = device;
    this.id = id;
    this.offset = offset;
    this.length = length;
    this.size = wholePages(length);
    this.physicalBase = physicalBase;
  }

  /**
   * Maps the region, or a part of it, through the device.
   *
   * @param range - inside the region; default: all {@link Region.length} bytes
   * @throws RangeError ERR_OUT_OF_RANGE
   * @throws DmaBufError ERR_DMABUF_CLOSED: the {@link CmaMem} was closed
   */
  map(range: Range = {}): Mapping {
    const { handle, path } = this.#device;
    const { offset, length } = checkRange(range, this.size, this.length, constants.PAGE_SIZE, {
      syscall: 'mmap',
      path,
    });
    return createMapping(handle.get('mmap'), { offset: this.offset + offset, length }, path);
  }

  /**
   * The region as a dma-buf (CMEM_IOC_EXPORT), readable and writable.
   *
   * @param options - `name` as in {@link Heap.alloc}
   */
  export(options: Pick<AllocOptions, 'name'> = {}): DmaBuf {
    const { handle, path } = this.#device;
    const call = { syscall: 'ioctl', path };
    checkOptions(options, 'options', call);
    const { name } = options;
    checkName(name, 'name', call);
    const buffer = native.cmaExport(handle.get('ioctl'), this.id);
    if (buffer < 0) throw systemError(buffer, 'ioctl', path, allocationAdvice(buffer, path, false));
    const error = name === undefined || name === '' ? 0 : native.setName(buffer, name);
    if (error < 0) {
      native.close(buffer);
      throw systemError(error, 'ioctl', path, 'DMA_BUF_SET_NAME was refused.');
    }
    return ownDmaBuf(buffer, { length: this.length, ...(name === undefined ? {} : { name }) });
  }
}

/**
 * /dev/cma_mem: regions of contiguous memory that are mapped through the device and
 * exported as dma-bufs. All of them belong to the open file.
 *
 * Where only dma-bufs are wanted, `openHeap('cma-mem')` makes them in one step.
 */
export class CmaMem implements Disposable {
  readonly path: string;
  readonly #device: Device;

  private constructor(key: symbol, device: Handle, path: string) {
    if (key !== secret) throw new TypeError('A CmaMem is made by CmaMem.open()');
    this.path = path;
    const handle = new OwnedHandle(this, device, `CmaMem ${path}`, path);
    this.#device = { handle, path, sysfs: sysfsFolder(device), owner: this };
  }

  /**
   * @throws SystemError ENOENT (module not loaded), EACCES, ENOTTY
   */
  static open(path: string = CMA_MEM_PATH): CmaMem {
    checkPath(path, 'path', 'open');
    return new CmaMem(secret, openDevice(path, constants.O_RDWR), path);
  }

  /**
   * A new, zeroed region (CMEM_ALLOCATE), made on the thread pool.
   *
   * @param length - bytes, at most 4 GiB - 1
   * @throws as {@link Heap.alloc}
   */
  async allocate(length: number, options: AllocOptions = {}): Promise<Region> {
    const { cached, name } = this.#check(length, options);
    return this.#finish(await native.cmaAllocate(this.#device.handle.get('ioctl'), length, cached, name), length);
  }

  /** The same, blocking. */
  allocateSync(length: number, options: AllocOptions = {}): Region {
    const { cached, name } = this.#check(length, options);
    return this.#finish(native.cmaAllocateSync(this.#device.handle.get('ioctl'), length, cached, name), length);
  }

  /** May be called twice. Regions live on in their mappings and dma-bufs only. */
  close(): void {
    this.#device.handle.close();
  }

  /** The same as {@link CmaMem.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #check(length: unknown, options: unknown): { cached: boolean; name: string } {
    const call = { syscall: 'ioctl', path: this.path };
    checkLength(length, 'length', call);
    if (length > MAX_REGION) throw outOfRange('length', `at most ${MAX_REGION}`, length, call);
    checkOptions(options, 'options', call);
    const { cached, name } = options as AllocOptions;
    checkFlag(cached, 'cached', call);
    checkName(name, 'name', call);
    return { cached: cached ?? true, name: name ?? '' };
  }

  #finish(region: OrErrno<CmaRegion>, length: number): Region {
    if (typeof region === 'number') {
      const { path, sysfs } = this.#device;
      const advice = deviceAdvice(
        region,
        length,
        path,
        () => readLimit(sysfs),
        () => memoryAdvice(true),
      );
      throw systemError(region, 'ioctl', path, advice);
    }
    return new Region(secret, this.#device, { ...region, length });
  }
}
