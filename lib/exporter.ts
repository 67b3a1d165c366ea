// SPDX-License-Identifier: MIT
import { constants as osConstants } from 'node:os';
import { allocationAdvice } from './advice.js';
import { checkFlag, checkOptionNames, checkOptions, checkPath, checkRange, type Range } from './arguments.js';
import { type DmaBuf, ownDmaBuf } from './dmabuf.js';
import { illegalConstructor, systemError } from './errors.js';
import { OwnedHandle } from './handle.js';
import { openDevice } from './heap/heap.js';
import { createMapping, type Mapping } from './mapping.js';
import { type Handle, native } from './native.js';

const { constants } = native;

/** Options of {@link Exporter.open}. */
export interface ExporterOptions {
  /** opens the device, and makes its dma-bufs, O_RDONLY; default false */
  readonly?: boolean;
  /** default `/dev/exporter` */
  path?: string;
}

const secret = Symbol('exporter');

/** EXPORTER_IOC_GET_FD */
function getFd(device: Handle, path: string): Handle {
  const handle = native.exporterGetFd(device);
  if (handle >= 0) return handle;
  throw systemError(handle, 'ioctl', path, allocationAdvice(handle, path, false));
}

/** /dev/exporter: one buffer with a text in it, and any number of dma-bufs that refer to it. */
export class Exporter implements Disposable {
  /** The device, as it was opened. */
  readonly path: string;
  /** Whether its dma-bufs are read-only: those have {@link DmaBuf.copy}, and no mappings. */
  readonly readonly: boolean;
  readonly #device: OwnedHandle;
  #size = 0;

  private constructor(key: symbol, device: Handle, path: string, readonly: boolean) {
    if (key !== secret) throw illegalConstructor('An Exporter is made by Exporter.open()');
    this.path = path;
    this.readonly = readonly;
    this.#device = new OwnedHandle(this, device, `Exporter ${path}`, path);
  }

  /**
   * Opens the device, for reading and writing unless the options say otherwise.
   *
   * @throws SystemError ENOENT (module not loaded), EACCES, EMFILE; ENOTTY: another device, or none
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  static open(options: ExporterOptions = {}): Exporter {
    checkOptions(options, 'options', { syscall: 'open' });
    checkOptionNames(options, ['readonly', 'path'] satisfies (keyof ExporterOptions)[], { syscall: 'open' });
    const { readonly = false, path = '/dev/exporter' } = options;
    checkPath(path, 'path', 'open');
    checkFlag(readonly, 'readonly', { syscall: 'open', path });
    const device = openDevice(path, readonly ? constants.O_RDONLY : constants.O_RDWR);
    try {
      native.close(getFd(device, path));
    } catch (error) {
      native.close(device);
      throw error;
    }
    return new Exporter(secret, device, path, readonly);
  }

  /** Bytes of the buffer, whole pages. */
  get size(): number {
    if (this.#size === 0) {
      using buffer = this.buffer();
      this.#size = buffer.size;
    }
    return this.#size;
  }

  /**
   * A new dma-buf descriptor of the buffer (EXPORTER_IOC_GET_FD), which belongs to the caller.
   *
   * @throws SystemError, DmaBufError ERR_DMABUF_CLOSED
   */
  getFd(): number {
    return this.buffer().takeFd();
  }

  /** The same as a {@link DmaBuf}. */
  buffer(): DmaBuf {
    return ownDmaBuf(getFd(this.#device.get('ioctl'), this.path));
  }

  /**
   * Maps the device itself, which shows the same memory.
   *
   * @throws SystemError EACCES: opened read-only; see {@link Exporter.copy}
   */
  map(range: Range = {}): Mapping {
    const checked = checkRange(range, this.size, this.size, constants.PAGE_SIZE, { syscall: 'mmap', path: this.path });
    if (this.readonly) {
      throw systemError(
        -osConstants.errno.EACCES,
        'mmap',
        this.path,
        'The device was opened read-only, and JavaScript has no read-only memory: copy() reads it.',
      );
    }
    return createMapping(this.#device.get('mmap'), checked, this.path);
  }

  /** A copy of what the device shows, read through a mapping of the device itself. */
  copy(range: Range = {}): ArrayBuffer {
    const { offset, length } = checkRange(range, this.size, this.size, 1, { syscall: 'mmap', path: this.path });
    const destination = new ArrayBuffer(length);
    const error = native.copy(this.#device.get('mmap'), offset, destination);
    if (error < 0) throw systemError(error, 'mmap', this.path);
    return destination;
  }

  /** May be called twice; its dma-bufs and mappings live on. */
  close(): void {
    this.#device.close();
  }

  /** The same as {@link Exporter.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
