// SPDX-License-Identifier: MIT
/** Ownership of what the bridge holds for an object. @module */
import { constants } from 'node:os';
import { DmaBufError, type ErrorDetails } from './errors.js';
import { type Handle, native } from './native.js';

/** What is text when it is wanted. */
export type Text = string | { toString(): string };

interface State {
  handle: Handle;
  poller: Handle;
  what: Text;
  path: Text | undefined;
  /** Where being left to the collector is worth a warning: the owner. */
  reference: WeakRef<object> | undefined;
}

/** Owners of what is open, where being left to the collector is worth a warning. */
const live = new Set<WeakRef<object>>();

/** What was not closed yet, of what is reported when it is left to the collector; oldest first. */
export function liveOwners(): object[] {
  return [...live].map((reference) => reference.deref()).filter((owner) => owner !== undefined);
}

function free(state: State): void {
  const { handle, poller, reference } = state;
  if (reference !== undefined) live.delete(reference);
  state.handle = 0;
  state.poller = 0;
  if (poller !== 0) native.pollerClose(poller);
  // -EBADF and -ESTALE: somebody else has closed the number, which is not ours any more
  if (handle !== 0) native.close(handle);
}

const registry = new FinalizationRegistry<State>((state) => {
  const { what, reference } = state;
  free(state);
  if (reference === undefined) return;
  process.emitWarning(`${what} was left to the garbage collector: call close(), or declare it with \`using\``, {
    type: 'DmaBufWarning',
    code: 'DMABUF_NOT_CLOSED',
  });
});

/**
 * One descriptor of the bridge's, owned by an object: closed once, by `close()` or
 * when the object is collected, and never used after somebody else has closed it.
 */
export class OwnedHandle {
  readonly #state: State;

  /** @param what - names the owner in messages */
  constructor(owner: object, handle: Handle, what: Text, path: Text | undefined, warn = false) {
    const reference = warn ? new WeakRef(owner) : undefined;
    this.#state = { handle, poller: 0, what, path, reference };
    if (reference !== undefined) live.add(reference);
    registry.register(owner, this.#state, this);
  }

  get closed(): boolean {
    return this.#state.handle === 0;
  }

  /** The handle, for a call that checks the descriptor itself. */
  get(operation: string): Handle {
    if (this.#state.handle === 0) throw this.isClosed(operation);
    return this.#state.handle;
  }

  /** What its owner is called in messages. */
  get what(): string {
    return `${this.#state.what}`;
  }

  /** The owner was closed. */
  isClosed(operation: string): DmaBufError {
    const message = `${this.#state.what} is closed: close it after its last use, or make another`;
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
    return new DmaBufError(
      'ERR_DMABUF_CLOSED',
      `The descriptor of ${this.#state.what} was closed by something else. Use close(), or takeFd() where the number is to belong to other code`,
      this.#details(operation),
    );
  }

  #details(syscall: string): ErrorDetails {
    const { path } = this.#state;
    return { errno: -constants.errno.EBADF, syscall, ...(path === undefined ? {} : { path: `${path}` }) };
  }

  /** Whether {@link OwnedHandle.poll} was called. */
  get polled(): boolean {
    return this.#state.poller !== 0;
  }

  /** What {@link OwnedHandle.poll} has made, or 0. */
  get poller(): Handle {
    return this.#state.poller;
  }

  /** Watches the descriptor until it is closed. */
  poll(callback: (events: number) => void): Handle {
    if (this.#state.poller === 0) {
      const poller = native.pollerCreate(this.get('poll'), callback);
      if (poller < 0) return poller;
      this.#state.poller = poller;
    }
    return this.#state.poller;
  }

  close(): void {
    registry.unregister(this);
    free(this.#state);
  }

  /** The number, which belongs to the caller from now on. */
  release(operation: string): number {
    const handle = this.get(operation);
    this.#state.handle = 0;
    this.close();
    const fd = native.release(handle);
    if (fd < 0) throw this.lost(operation);
    return fd;
  }
}
