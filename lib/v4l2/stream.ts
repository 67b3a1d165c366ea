// SPDX-License-Identifier: MIT
/** Frames that come one after the other. @module */
import type { DmaBuf } from '../dmabuf.js';
import type { Heap } from '../heap/heap.js';
import type { VideoDevice } from './device.js';
import type { Format } from './formats.js';
import { type Frame, makeFrame } from './frame.js';
import { BufferQueue, type Done, type Slot } from './queue.js';
import { Ready } from './readiness.js';
import type { Stage } from './report.js';

/** What {@link Capture.frames} has checked. @internal */
export interface StreamOptions {
  count: number;
  heap: Heap | undefined;
  buffers: readonly (readonly DmaBuf[])[] | undefined;
  latest: boolean;
  signal: AbortSignal | undefined;
}

/** Milliseconds a program may hold all frames while it waits for one, before it is told. */
const PATIENCE_MS = 2000;

const secret = Symbol('frames');

/** @internal */
export let startFrames: (device: VideoDevice, type: number, options: StreamOptions) => FrameStream;

/**
 * The frames of a {@link Capture}. Begins when the first is asked for, and ends with the loop over it, with
 * {@link FrameStream.close}, or with an error: then the driver streams no more and its buffers are freed, but for those
 * of frames that are not closed yet.
 */
export class FrameStream implements AsyncIterableIterator<Frame>, Disposable {
  readonly #device: VideoDevice;
  readonly #queue: BufferQueue;
  readonly #options: StreamOptions;
  #starting: Promise<void> | undefined;
  #closed = false;
  /** what went wrong while nobody asked */
  #failed: unknown;
  #last: number | undefined;
  #frames = 0;
  #dropped = 0;
  #skipped = 0;
  #told = false;

  static {
    startFrames = (device, type, options) => new FrameStream(secret, device, type, options);
  }

  private constructor(key: symbol, device: VideoDevice, type: number, options: StreamOptions) {
    if (key !== secret) throw new TypeError('A FrameStream is made by frames()');
    this.#device = device;
    this.#queue = new BufferQueue(device, type);
    this.#options = options;
  }

  /** Whether it has ended. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Frames that the program has got. */
  get frames(): number {
    return this.#frames;
  }

  /** Frames that the driver had no buffer for, by the gaps between the {@link Frame.sequence} of others. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Frames that were given back unseen, for there was a later one: of `latest` only. */
  get skipped(): number {
    return this.#skipped;
  }

  /** What went through it, for {@link pipelineReport}. @internal */
  get stage(): Stage {
    return this.#queue.stage;
  }

  /** The buffers it has, as lists of one for each plane; none before the first frame was asked for. */
  get buffers(): readonly (readonly DmaBuf[])[] {
    return this.#queue.slots.map(({ buffers }) => buffers);
  }

  /** What its frames look like; undefined before the first was asked for, and after the end. */
  get format(): Format | undefined {
    return this.#queue.format;
  }

  /**
   * The next frame. A loop calls it.
   *
   * @throws SystemError ENODEV: the device is gone; EIO: the driver does not go on; EBUSY: another program has the
   *   device; EFAULT, EINVAL: it does not take the buffers, the message says why; ENOMEM
   * @throws RangeError ERR_OUT_OF_RANGE: a buffer is too small for its plane
   * @throws DmaBufError ERR_DMABUF_CLOSED; the reason of `signal`
   */
  async next(): Promise<IteratorResult<Frame, undefined>> {
    try {
      if (!this.#closed) {
        this.#options.signal?.throwIfAborted();
        await this.#begun();
      }
      while (!this.#closed) {
        this.#options.signal?.throwIfAborted();
        this.#throwFailure();
        const frame = this.#take();
        if (frame !== undefined) return { value: frame, done: false };
        await this.#wait();
      }
      this.#throwFailure();
      return { value: undefined, done: true };
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Leaves the loop: ends the stream. */
  async return(): Promise<IteratorResult<Frame, undefined>> {
    this.close();
    return { value: undefined, done: true };
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /**
   * Ends it: VIDIOC_STREAMOFF, and the buffers are freed. Frames that the program has still show what they showed. May
   * be called twice.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue.release();
    this.#device.readiness.rest();
  }

  /** The same as {@link FrameStream.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #throwFailure(): void {
    const failed = this.#failed;
    this.#failed = undefined;
    if (failed !== undefined) throw failed;
  }

  #begun(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    const { buffers, count, heap } = this.#options;
    if (buffers === undefined) await this.#queue.allocate({ count, heap });
    else this.#queue.adopt(buffers);
    // closed meanwhile
    if (this.#closed) {
      this.#queue.release();
      return;
    }
    for (const slot of this.#queue.slots) this.#queue.enqueue(slot);
    this.#queue.start();
  }

  #take(): Frame | undefined {
    let done = this.#queue.dequeue();
    if (done === undefined) return undefined;
    this.#count(done);
    try {
      while (this.#options.latest) {
        const later = this.#queue.dequeue();
        if (later === undefined) break;
        const { slot } = done;
        slot.holder = 'idle';
        done = later;
        this.#count(done);
        this.#queue.enqueue(slot);
        this.#skipped++;
      }
    } catch (error) {
      // No frame is made of it: it goes with the queue.
      done.slot.holder = 'idle';
      throw error;
    }
    this.#frames++;
    const { slot } = done;
    const what = `Frame ${done.sequence} of ${this.#device.path}`;
    return makeFrame(done, this.#queue.format as Format, what, () => this.#give(slot));
  }

  #count({ sequence }: Done): void {
    // Fields may share one, and it is a number of 32 bits.
    const gap = this.#last === undefined ? 0 : ((sequence - this.#last) >>> 0) - 1;
    if (gap > 0 && gap < 0x80000000) this.#dropped += gap;
    this.#last = sequence;
  }

  /** A frame was closed. */
  #give(slot: Slot): void {
    if (this.#closed) {
      this.#queue.drop(slot);
      return;
    }
    try {
      this.#queue.enqueue(slot);
    } catch (error) {
      // Whoever closes a frame is not to blame: the next who asks for one is told.
      slot.holder = 'idle';
      this.#failed ??= error;
      this.#device.readiness.wake();
    }
  }

  async #wait(): Promise<void> {
    const timer =
      this.#told || this.#queue.queued > 0 ? undefined : setTimeout(() => this.#tell(), PATIENCE_MS).unref();
    try {
      await this.#device.readiness.wait(Ready.filled, this.#options.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  #tell(): void {
    if (this.#told || this.#closed || this.#queue.queued > 0) return;
    this.#told = true;
    process.emitWarning(
      `A loop waits for a frame of ${this.#device.path}, and the program holds all ${this.#queue.slots.length}: close() frames that are no longer needed, or declare them with \`using\``,
      { type: 'DmaBufWarning', code: 'DMABUF_FRAMES_HELD' },
    );
  }
}
