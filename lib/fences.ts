// SPDX-License-Identifier: MIT
/** What says when a device is done with a buffer. @module */
import { constants as osConstants, release } from 'node:os';
import { descriptorAdvice } from './advice.js';
import { checkFd, checkOptionNames, checkOptions } from './arguments.js';
import { DmaBufError, illegalConstructor, invalidType, invalidValue, systemError } from './errors.js';
import { OwnedHandle } from './handle.js';
import { type Handle, native } from './native.js';

const { constants } = native;
const { errno } = osConstants;

/**
 * What is done with the bytes. Who reads waits for devices that write; who writes waits for those that read, too.
 */
export type AccessDirection = 'read' | 'write' | 'readwrite';

/** The bits of DMA_BUF_IOCTL_SYNC and the like. @internal */
export const directionFlags: Readonly<Record<AccessDirection, number>> = {
  read: constants.DMA_BUF_SYNC_READ,
  write: constants.DMA_BUF_SYNC_WRITE,
  readwrite: constants.DMA_BUF_SYNC_READ | constants.DMA_BUF_SYNC_WRITE,
};

/** @internal */
export function checkDirection(value: unknown, syscall: string): asserts value is AccessDirection {
  const expected = `one of ${Object.keys(directionFlags).join(', ')}`;
  if (typeof value !== 'string') throw invalidType('direction', expected, value, { syscall });
  if (!Object.hasOwn(directionFlags, value)) {
    throw invalidValue('direction', `must be ${expected}. Received '${value}'`, { syscall });
  }
}

/** Options of what waits. */
export interface WaitOptions {
  /** ends the waiting: the promise is rejected with its reason */
  signal?: AbortSignal;
}

/** @internal */
export function checkWaitOptions(value: unknown, syscall: string): AbortSignal | undefined {
  const call = { syscall };
  checkOptions(value, 'options', call);
  checkOptionNames(value, ['signal'] satisfies (keyof WaitOptions)[], call);
  const { signal } = value as WaitOptions;
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidType('signal', 'an instance of AbortSignal', signal, call);
  }
  return signal;
}

/** Promises that wait for one descriptor, on the loop of this thread. They keep the process alive. @internal */
export class Waits {
  /** made for the first: most owners wait for nothing */
  #ends: Set<(error?: unknown) => void> | undefined;

  /** @param events - UV_READABLE or UV_WRITABLE */
  wait(handle: Handle, events: number, path: string, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    // A number no script knows: libuv ends the process when one it watches is closed.
    const own = native.duplicate(handle);
    if (own < 0) return Promise.reject(systemError(own, 'fcntl', path, descriptorAdvice(own)));
    this.#ends ??= new Set();
    const ends = this.#ends;
    return new Promise<void>((resolve, reject) => {
      let poller = 0;
      const end = (error?: unknown) => {
        if (!ends.delete(end)) return;
        signal?.removeEventListener('abort', abort);
        if (poller > 0) native.pollerClose(poller);
        native.close(own);
        if (error === undefined) resolve();
        else reject(error);
      };
      const abort = () => end(signal?.reason ?? new Error('aborted'));
      ends.add(end);
      signal?.addEventListener('abort', abort);
      const made = native.pollerCreate(own, (happened) =>
        end(happened < 0 ? systemError(happened, 'poll', path) : undefined),
      );
      // Making it runs the init hooks of async_hooks, which may have ended the waiting.
      if (!ends.has(end)) {
        if (made > 0) native.pollerClose(made);
        return;
      }
      poller = made;
      const error = poller < 0 ? poller : native.pollerUpdate(poller, events, true);
      if (error < 0) end(systemError(error, 'poll', path, descriptorAdvice(error)));
    });
  }

  /** Rejects all of them. */
  cancel(error: () => Error): void {
    for (const end of this.#ends ?? []) end(error());
  }
}

/** The error of a kernel that has no sync files of dma-bufs. @internal */
export function noSyncFiles(path: string): DmaBufError {
  return new DmaBufError(
    'ERR_DMABUF_UNSUPPORTED',
    `Sync files of dma-bufs want Linux 6.0 or later, and this is ${release()}: ready() waits for the same fences on every kernel`,
    { errno: -errno.ENOTTY, syscall: 'ioctl', path },
  );
}

/** Makes a {@link SyncFile} that owns `handle`. @internal */
export let ownSyncFile: (handle: Handle) => SyncFile;

/** The handle in a {@link SyncFile}. @internal */
export let handleOfSyncFile: (file: SyncFile) => Handle;

const secret = Symbol('sync-file');
const PATH = 'anon_inode:sync_file';

/**
 * A fence, or several, as a descriptor (`linux/sync_file.h`): what Vulkan, DRM and V4L2 take and give to say that
 * work is done. From {@link DmaBuf.exportSyncFile}, or from elsewhere by {@link SyncFile.fromFd}.
 */
export class SyncFile implements Disposable {
  readonly #handle: OwnedHandle;
  readonly #waits = new Waits();

  static {
    ownSyncFile = (handle) => new SyncFile(secret, handle);
    handleOfSyncFile = (file) => file.#handle.get('ioctl');
  }

  private constructor(key: symbol, handle: Handle) {
    if (key !== secret) throw illegalConstructor('A SyncFile is made by exportSyncFile() or SyncFile.fromFd()');
    this.#handle = new OwnedHandle(this, handle, 'SyncFile', PATH);
  }

  /**
   * Takes over a descriptor. The number is not valid any more afterwards; where this throws, it still belongs to
   * the caller.
   *
   * @throws SystemError EBADF: not open; ENOTTY: no sync file
   * @throws TypeError ERR_INVALID_ARG_VALUE: another object of this library owns the number
   */
  static fromFd(fd: number): SyncFile {
    checkFd(fd, 'fd', 'ioctl');
    const path = `/proc/self/fd/${fd}`;
    const original = native.adopt(fd);
    if (original === -errno.EBUSY) {
      throw invalidValue('fd', `is ${fd}, which belongs to an open object of this library already`, {
        syscall: 'ioctl',
        path,
      });
    }
    // Anonymous files cannot be told from each other: a number no script can close behind our back.
    const handle = original < 0 ? original : native.duplicate(original);
    const status = handle < 0 ? handle : native.syncFileStatus(handle);
    if (typeof status === 'number') {
      if (original > 0) native.release(original);
      if (handle > 0) native.close(handle);
      throw systemError(status, 'ioctl', path, descriptorAdvice(status) ?? 'It is no sync file.');
    }
    native.close(original);
    return ownSyncFile(handle);
  }

  /** Whether {@link SyncFile.close} or {@link SyncFile.takeFd} was called. */
  get closed(): boolean {
    return this.#handle.closed;
  }

  /**
   * Whether nothing has to be waited for any more, be it that a device failed.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  get signalled(): boolean {
    return this.#status() !== 0;
  }

  /**
   * Resolves when all fences are signalled.
   *
   * @throws SystemError what a device has said of its failure
   * @throws DmaBufError ERR_DMABUF_CLOSED, also when it is closed meanwhile
   */
  async wait(options: WaitOptions = {}): Promise<void> {
    const signal = checkWaitOptions(options, 'poll');
    if (this.#status() === 0) {
      await this.#waits.wait(this.#handle.get('poll'), constants.UV_READABLE, PATH, signal);
    }
    const status = this.#status();
    if (status < 0) throw systemError(status, 'poll', PATH, 'The device has failed.');
  }

  /**
   * The descriptor, which belongs to the caller from now on: this object is closed.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  takeFd(): number {
    const number = this.#handle.release('takeFd');
    this.#cancel();
    return number;
  }

  /** May be called twice. */
  close(): void {
    if (this.closed) return;
    this.#handle.close();
    this.#cancel();
  }

  /** The same as {@link SyncFile.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #cancel(): void {
    this.#waits.cancel(() => this.#handle.isClosed('poll'));
  }

  #status(): number {
    const status = native.syncFileStatus(this.#handle.get('ioctl'));
    if (typeof status === 'number') throw systemError(status, 'ioctl', PATH);
    return status.status;
  }
}
