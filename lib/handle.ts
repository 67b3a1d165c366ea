// SPDX-License-Identifier: MIT
/** Ownership of what the bridge holds for an object. @module */
import { constants } from 'node:os';
import { Watched } from './collected.js';
import { DmaBufError, type ErrorDetails, lost } from './errors.js';
import { type Handle, native } from './native.js';

/** A name that need not be a string before it is wanted; it does not keep the owner alive. */
export interface Name {
  toString(): string;
}

/** What was not closed yet, of what is reported when it is left to the collector; oldest first. */
export function liveOwners(): object[] {
  return Watched.all()
    .filter((each) => each instanceof OwnedHandle && each.warn)
    .map(({ owner }) => owner)
    .filter((owner) => owner !== undefined);
}

/**
 * One descriptor of the bridge's, owned by an object: closed once, by `close()` or
 * when the object is collected, and never used after somebody else has closed it.
 */
export class OwnedHandle extends Watched {
  /** Whether being left to the collector is worth a warning. */
  readonly warn: boolean;
  #handle: Handle;
  #poller: Handle = 0;
  readonly #what: Name;
  readonly #path: Name | undefined;

  /** @param what - names the owner in messages */
  constructor(owner: object, handle: Handle, what: Name, path: Name | undefined, warn = false) {
    super(owner);
    this.warn = warn;
    this.#handle = handle;
    this.#what = what;
    this.#path = path;
    this.watch();
  }

  get closed(): boolean {
    return this.#handle === 0;
  }

  /** The handle, for a call that checks the descriptor itself. */
  get(operation: string): Handle {
    if (this.#handle === 0) throw this.isClosed(operation);
    return this.#handle;
  }

  /** What its owner is called in messages. */
  get what(): string {
    return String(this.#what);
  }

  /** The owner was closed. */
  isClosed(operation: string): DmaBufError {
    const message = `${this.#what} is closed: close it after its last use, or make another`;
    return new DmaBufError('ERR_DMABUF_CLOSED', message, this.#details(operation));
  }

  /** The number of the descriptor, which is checked to be the one we know. */
  fd(operation: string): number {
    const fd = native.fd(this.get(operation));
    if (fd < 0) throw this.lost(operation);
    return fd;
  }

  /** Something else has closed the descriptor. */
  lost(operation: string): DmaBufError {
    const path = this.#path;
    return lost(this.what, operation, path === undefined ? undefined : String(path));
  }

  #details(syscall: string): ErrorDetails {
    const path = this.#path;
    return { errno: -constants.errno.EBADF, syscall, ...(path === undefined ? {} : { path: String(path) }) };
  }

  /** Whether {@link OwnedHandle.poll} was called. */
  get polled(): boolean {
    return this.#poller !== 0;
  }

  /** What {@link OwnedHandle.poll} has made, or 0. */
  get poller(): Handle {
    return this.#poller;
  }

  /** Watches the descriptor until it is closed. */
  poll(callback: (events: number) => void): Handle {
    if (this.#poller === 0) {
      const poller = native.pollerCreate(this.get('poll'), callback);
      if (poller < 0) return poller;
      // Making it runs the init hooks of async_hooks, which may close its owner, or have made another.
      if (this.closed || this.#poller !== 0) native.pollerClose(poller);
      if (this.closed) return -constants.errno.EBADF;
      this.#poller ||= poller;
    }
    return this.#poller;
  }

  close(): void {
    this.unwatch();
    const handle = this.#handle;
    const poller = this.#poller;
    this.#handle = 0;
    this.#poller = 0;
    if (poller !== 0) native.pollerClose(poller);
    // -EBADF and -ESTALE: somebody else has closed the number, which is not ours any more
    if (handle !== 0) native.close(handle);
  }

  override gone(): void {
    this.close();
    if (!this.warn) return;
    process.emitWarning(`${this.what} was left to the garbage collector: call close(), or declare it with \`using\``, {
      type: 'DmaBufWarning',
      code: 'DMABUF_NOT_CLOSED',
    });
  }

  /** The number, which belongs to the caller from now on. */
  release(operation: string): number {
    const handle = this.get(operation);
    this.#handle = 0;
    this.close();
    const fd = native.release(handle);
    if (fd < 0) throw this.lost(operation);
    return fd;
  }
}
