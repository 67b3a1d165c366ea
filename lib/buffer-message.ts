// SPDX-License-Identifier: MIT
import { type Watched, whenCollected } from './collected.js';
import { DmaBuf } from './dmabuf.js';
import { illegalConstructor } from './errors.js';
import type { FdMessage, FdSocket } from './fd-socket.js';
import { native } from './native.js';

const secret = Symbol('buffer-message');

/**
 * A message of {@link FdSocket.buffers}, whose descriptors are buffers. Close it when done: that closes them, too, and is
 * what a {@link BufferPool} waits for that has lent them.
 */
export class BufferMessage implements Disposable {
  /** what the peer sent */
  readonly value: unknown;
  /** in the order they were sent; they belong to the receiver */
  readonly buffers: readonly DmaBuf[];
  readonly #socket: FdSocket;
  #loan: number | undefined;
  #watched: Watched | undefined;

  private constructor(key: symbol, socket: FdSocket, value: unknown, buffers: DmaBuf[], loan: number | undefined) {
    if (key !== secret) throw illegalConstructor('A BufferMessage is what FdSocket.buffers() gives');
    this.value = value;
    this.buffers = buffers;
    this.#socket = socket;
    this.#loan = loan;
    // Its buffers warn of being left to the collector.
    if (loan !== undefined) this.#watched = whenCollected(this, () => goHome(socket, loan));
  }

  /** @internal */
  static of(socket: FdSocket, { value, fds, loan }: FdMessage): BufferMessage {
    const buffers: DmaBuf[] = [];
    try {
      for (const fd of fds) buffers.push(DmaBuf.fromHandle(fd));
    } catch (error) {
      for (const fd of fds.slice(buffers.length)) native.close(fd);
      for (const buffer of buffers) buffer.close();
      goHome(socket, loan);
      throw error;
    }
    return new BufferMessage(secret, socket, value, buffers, loan);
  }

  /** Whether the buffers are of the peer's {@link BufferPool}, which waits for them. */
  get lent(): boolean {
    return this.#loan !== undefined;
  }

  /** Closes the buffers, and tells the peer's {@link BufferPool} that they are back. May be called twice. */
  close(): void {
    for (const buffer of this.buffers) buffer.close();
    this.#watched?.unwatch();
    goHome(this.#socket, this.#loan);
    this.#loan = undefined;
  }

  /** The same as {@link BufferMessage.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function goHome(socket: FdSocket, loan: number | undefined): void {
  // A peer that is gone has its buffers back.
  if (loan !== undefined && !socket.closed) void socket.release(loan).catch(() => {});
}
