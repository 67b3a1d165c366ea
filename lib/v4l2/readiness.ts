// SPDX-License-Identifier: MIT
/** Waiting for a device, for buffers of both directions and for events, on the loop of this thread. @module */
import { constants as osConstants } from 'node:os';
import { systemError } from '../errors.js';
import type { OwnedHandle } from '../handle.js';
import { native } from '../native.js';
import { unwatch, watch } from '../watch.js';

const { UV_READABLE, UV_WRITABLE, UV_PRIORITIZED, UV_DISCONNECT } = native.constants;

/**
 * What is waited for. `wake` is for the program to do something, and for the device to go away: no device disconnects.
 *
 * @internal
 */
export const Ready = {
  filled: UV_READABLE,
  used: UV_WRITABLE,
  event: UV_PRIORITIZED,
  wake: UV_DISCONNECT,
} as const;

interface Waiter {
  events: number;
  end(error?: unknown): void;
}

/** Promises that wait for one device. They keep the process alive, and whatever waits. @internal */
export class Readiness {
  readonly #handle: OwnedHandle;
  readonly #path: string;
  readonly #waiters = new Set<Waiter>();
  #fetch: (() => void) | undefined;

  constructor(handle: OwnedHandle, path: string) {
    this.#handle = handle;
    this.#path = path;
  }

  /**
   * Resolves when what is waited for may have happened, or something went wrong: the call that follows tells.
   *
   * @param events - of {@link Ready}
   */
  wait(events: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise<void>((resolve, reject) => {
      const waiter: Waiter = {
        events,
        end: (error) => {
          this.#waiters.delete(waiter);
          signal?.removeEventListener('abort', abort);
          if (error === undefined) resolve();
          else reject(error);
        },
      };
      const abort = () => {
        waiter.end(signal?.reason);
        this.#update();
      };
      signal?.addEventListener('abort', abort);
      this.#waiters.add(waiter);
      const error = this.#update();
      if (error < 0) waiter.end(systemError(error, 'poll', this.#path));
    });
  }

  /**
   * Calls `fetch` when there are events, until told otherwise by undefined. That keeps nothing alive. It must not throw.
   */
  onEvents(fetch: (() => void) | undefined): void {
    this.#fetch = fetch;
    if (!this.#handle.closed) this.#update();
  }

  /** Lets all go on, who will find out why. */
  wake(): void {
    for (const waiter of [...this.#waiters]) waiter.end();
    if (!this.#handle.closed) this.#update();
    else unwatch(this);
  }

  /**
   * Lets all go on, and asks for no buffers: a queue without any takes a poll(2) that asks for one as the beginning of
   * read(2) or write(2), and streams to itself (vb2_core_poll, drivers/media/common/videobuf2/videobuf2-core.c). What
   * libuv watches would be asked again, for stopping is put off.
   */
  rest(): void {
    if (!this.#handle.closed && this.#handle.polled) native.pollerUpdate(this.#handle.poller, Ready.wake, true);
    this.wake();
  }

  #update(): number {
    if (this.#handle.closed) return -osConstants.errno.EBADF;
    let events = 0;
    for (const waiter of this.#waiters) events |= waiter.events;
    const quiet = this.#fetch === undefined ? 0 : Ready.event;
    return watch<Readiness>(this, this.#handle, events, (self, happened) => self.#happened(happened), quiet);
  }

  #happened(events: number): void {
    if (events < 0 || (events & Ready.event) !== 0) this.#fetch?.();
    const met = [...this.#waiters].filter((waiter) => events > 0 && (waiter.events & events) !== 0);
    // An error is everybody's.
    for (const waiter of met.length > 0 ? met : [...this.#waiters]) waiter.end();
    this.#update();
  }
}
