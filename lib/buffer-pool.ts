// SPDX-License-Identifier: MIT
import { constants as osConstants } from 'node:os';
import { checkInteger, checkOptions } from './arguments.js';
import { type Watched, whenCollected } from './collected.js';
import type { DmaBuf } from './dmabuf.js';
import { DmaBufError, illegalConstructor, invalidType } from './errors.js';
import { FdSocket, lend } from './fd-socket.js';
import { checkWaitOptions, type WaitOptions } from './fences.js';
import { type AllocOptions, Heap } from './heap/heap.js';

/** Most buffers of a pool. */
const MOST_BUFFERS = 65536;

/** Options of {@link BufferPool.create}: those of {@link Heap.alloc}, and how many. */
export interface BufferPoolOptions extends AllocOptions {
  /** buffers, from 1 to 65536 */
  count: number;
}

interface Waiter {
  resolve: (buffer: PoolBuffer) => void;
  reject: (error: unknown) => void;
}

/** Who has a buffer of a pool: its holder here, and peers it was sent to. */
interface Loan {
  buffer: DmaBuf;
  holders: number;
  home: (buffer: DmaBuf) => void;
}

const secret = Symbol('buffer-pool');

function leave(loan: Loan): void {
  loan.holders--;
  if (loan.holders === 0) loan.home(loan.buffer);
}

function wasLeft(loan: Loan): void {
  process.emitWarning(
    `A buffer of a BufferPool of ${loan.buffer.length} bytes was left to the garbage collector: call release(), or declare it with \`using\``,
    { type: 'DmaBufWarning', code: 'DMABUF_NOT_CLOSED' },
  );
  leave(loan);
}

/**
 * Equal buffers that go round: whoever wants one waits until one is free, so that a consumer that is slow slows the
 * producer down, and nothing is allocated on the way.
 *
 * A buffer may be sent to other processes, and comes home when they say so ({@link FdSocket.release}, or
 * {@link BufferMessage}) or are gone. Home it is, too, when its socket is closed here. A peer that has passed the buffer
 * on, or goes on using it, is beyond knowing.
 */
export class BufferPool implements Disposable {
  /** Bytes of each, as {@link DmaBuf.length}. */
  readonly length: number;
  /** Buffers. */
  readonly count: number;
  readonly #all: DmaBuf[];
  readonly #free: DmaBuf[];
  readonly #waiters = new Set<Waiter>();
  #closed = false;

  private constructor(key: symbol, buffers: DmaBuf[], length: number) {
    if (key !== secret) throw illegalConstructor('A BufferPool is made by create() or createSync()');
    this.#all = buffers;
    this.#free = [...buffers].reverse();
    this.count = buffers.length;
    this.length = length;
  }

  /**
   * Allocates the buffers, each as {@link Heap.alloc} does; none is left where one of them fails.
   *
   * @param length - bytes of each
   * @throws what {@link Heap.alloc} does
   */
  static async create(heap: Heap, length: number, options: BufferPoolOptions): Promise<BufferPool> {
    const [count, each] = checkPool(heap, options);
    const made = await Promise.allSettled(Array.from({ length: count }, () => heap.alloc(length, each)));
    const buffers = made.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const failed = made.find((one) => one.status === 'rejected');
    if (failed === undefined) return new BufferPool(secret, buffers, length);
    for (const buffer of buffers) buffer.close();
    throw failed.reason;
  }

  /** The same, blocking. */
  static createSync(heap: Heap, length: number, options: BufferPoolOptions): BufferPool {
    const [count, each] = checkPool(heap, options);
    const buffers: DmaBuf[] = [];
    try {
      while (buffers.length < count) buffers.push(heap.allocSync(length, each));
    } catch (error) {
      for (const buffer of buffers) buffer.close();
      throw error;
    }
    return new BufferPool(secret, buffers, length);
  }

  /** Buffers that are home. */
  get available(): number {
    return this.#free.length;
  }

  /** Whether {@link BufferPool.close} was called. */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * A buffer that nobody has, as soon as there is one; who asks first gets it first. What was in it before still is.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED, also when the pool is closed meanwhile; the reason of `signal`
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  async acquire(options: WaitOptions = {}): Promise<PoolBuffer> {
    const signal = checkWaitOptions(options, 'acquire');
    signal?.throwIfAborted();
    const free = this.tryAcquire();
    if (free !== undefined) return free;
    return new Promise<PoolBuffer>((resolve, reject) => {
      const settle = () => {
        this.#waiters.delete(waiter);
        signal?.removeEventListener('abort', abort);
      };
      const waiter: Waiter = {
        resolve: (buffer) => {
          settle();
          resolve(buffer);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      const abort = () => waiter.reject(signal?.reason);
      signal?.addEventListener('abort', abort);
      this.#waiters.add(waiter);
    });
  }

  /**
   * The same without waiting: undefined where no buffer is home.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  tryAcquire(): PoolBuffer | undefined {
    if (this.#closed) throw closedError();
    const buffer = this.#free.pop();
    return buffer && this.#give(buffer);
  }

  /** Closes all buffers, those that are away, too: peers keep what they have. May be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const buffer of this.#all) buffer.close();
    this.#free.length = 0;
    for (const { reject } of this.#waiters) reject(closedError());
  }

  /** The same as {@link BufferPool.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #give(buffer: DmaBuf): PoolBuffer {
    return PoolBuffer.of({ buffer, holders: 1, home: (back) => this.#home(back) });
  }

  #home(buffer: DmaBuf): void {
    if (this.#closed) return;
    const [waiter] = this.#waiters;
    if (waiter === undefined) this.#free.push(buffer);
    else waiter.resolve(this.#give(buffer));
  }
}

/** A buffer of a {@link BufferPool}, until it is released. */
export class PoolBuffer implements Disposable {
  readonly #loan: Loan;
  readonly #watched: Watched;
  #released = false;

  private constructor(key: symbol, loan: Loan) {
    if (key !== secret) throw illegalConstructor('A PoolBuffer is what BufferPool.acquire() gives');
    this.#loan = loan;
    this.#watched = whenCollected(this, () => wasLeft(loan));
  }

  /** @internal */
  static of(loan: Loan): PoolBuffer {
    return new PoolBuffer(secret, loan);
  }

  /**
   * The buffer, which stays the pool's: not to be closed.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED: it was released
   */
  get buffer(): DmaBuf {
    if (this.#released) throw closedError('The buffer was released: acquire() another');
    return this.#loan.buffer;
  }

  /**
   * Lends the buffer to a peer. It comes home when the peer says so or is gone, and is released here; it may be sent to
   * several.
   *
   * @param value - goes with it, as of {@link FdSocket.send}
   * @throws what {@link FdSocket.send} does; ERR_DMABUF_UNSUPPORTED: the socket is raw
   */
  async send(socket: FdSocket, value: unknown): Promise<void> {
    if (!(socket instanceof FdSocket)) throw invalidType('socket', 'an instance of FdSocket', socket);
    const { buffer } = this;
    const loan = this.#loan;
    loan.holders++;
    let away = true;
    const home = () => {
      if (away) leave(loan);
      away = false;
    };
    try {
      await lend(socket, value, [buffer], home);
    } catch (error) {
      home();
      throw error;
    }
  }

  /** Gives the buffer back, as far as it is here. May be called twice. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#watched.unwatch();
    leave(this.#loan);
  }

  /** The same as {@link PoolBuffer.release}. */
  [Symbol.dispose](): void {
    this.release();
  }
}

function checkPool(heap: unknown, options: unknown): [count: number, each: AllocOptions] {
  const call = { syscall: 'alloc' };
  if (!(heap instanceof Heap)) throw invalidType('heap', 'an instance of Heap', heap, call);
  checkOptions(options, 'options', call);
  const { count, ...each } = options as BufferPoolOptions;
  checkInteger(count, 'count', 1, MOST_BUFFERS, call);
  return [count, each];
}

function closedError(message = 'The BufferPool is closed: make another'): DmaBufError {
  return new DmaBufError('ERR_DMABUF_CLOSED', message, { errno: -osConstants.errno.EBADF, syscall: 'acquire' });
}
