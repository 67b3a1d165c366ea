// SPDX-License-Identifier: MIT
/** Frames that come one after the other. @module */
import type { DmaBuf } from '../dmabuf.js';
import { illegalConstructor } from '../errors.js';
import type { Heap } from '../heap/heap.js';
import type { VideoDevice } from './device.js';
import type { Frame } from './frame.js';
import { FrameSource } from './frame-source.js';
import type { Done, FrameQueue } from './queue.js';
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

const secret = Symbol('frames');

/** @internal */
export let startFrames: (device: VideoDevice, queue: FrameQueue, options: StreamOptions) => FrameStream;

/**
 * The frames of a {@link Capture}. Begins when the first is asked for, and ends with the loop over it, with
 * {@link FrameStream.close}, or with an error: then the driver streams no more and its buffers are freed, but for those
 * of frames that are not closed yet.
 */
export class FrameStream extends FrameSource {
  readonly #options: StreamOptions;
  #starting: Promise<void> | undefined;
  #closed = false;
  /** what went wrong while nobody asked */
  #failed: unknown;
  #last: number | undefined;
  #dropped = 0;
  #skipped = 0;

  static {
    startFrames = (device, queue, options) => new FrameStream(secret, device, queue, options);
  }

  private constructor(key: symbol, device: VideoDevice, queue: FrameQueue, options: StreamOptions) {
    if (key !== secret) throw illegalConstructor('A FrameStream is made by frames()');
    super(device, queue);
    this.#options = options;
  }

  /** Whether it has ended. */
  override get closed(): boolean {
    return this.#closed;
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
  override get stage(): Stage {
    return this.output.stage;
  }

  /**
   * The next frame. A loop calls it.
   *
   * @throws SystemError ENODEV: the device is gone; EIO: the driver does not go on; EBUSY: another program has the
   *   device; EFAULT, EINVAL: it does not take the buffers, the message says why; ENOMEM
   * @throws RangeError ERR_OUT_OF_RANGE: a buffer is too small for its plane
   * @throws DmaBufError ERR_DMABUF_CLOSED; the reason of `signal`
   */
  override async next(): Promise<IteratorResult<Frame, undefined>> {
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

  /**
   * Ends it: VIDIOC_STREAMOFF, and the buffers are freed. Frames that the program has still show what they showed. May
   * be called twice.
   */
  override close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.output.release();
    this.device.readiness.rest();
  }

  /** @internal */
  protected override gaveBack(error?: unknown): void {
    if (error === undefined) return;
    this.#failed ??= error;
    this.device.readiness.wake();
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
    if (buffers === undefined) await this.output.allocate({ count, heap });
    else this.output.adopt(buffers);
    // closed meanwhile
    if (this.#closed) {
      this.output.release();
      return;
    }
    for (const slot of this.output.slots) this.output.enqueue(slot);
    this.output.start();
  }

  #take(): Frame | undefined {
    let done = this.output.dequeue();
    if (done === undefined) return undefined;
    this.#count(done);
    try {
      while (this.#options.latest) {
        const later = this.output.dequeue();
        if (later === undefined) break;
        const { slot } = done;
        slot.holder = 'idle';
        done = later;
        this.#count(done);
        this.output.enqueue(slot);
        this.#skipped++;
      }
    } catch (error) {
      // No frame is made of it: it goes with the queue.
      done.slot.holder = 'idle';
      throw error;
    }
    return this.frameOf(this.cameOut(done));
  }

  #count({ sequence }: Done): void {
    // Fields may share one, and it is a number of 32 bits.
    const gap = this.#last === undefined ? 0 : ((sequence - this.#last) >>> 0) - 1;
    if (gap > 0 && gap < 0x80000000) this.#dropped += gap;
    this.#last = sequence;
  }

  async #wait(): Promise<void> {
    const timer = this.tellWhere(() => !this.#closed && this.output.queued === 0);
    try {
      await this.device.readiness.wait(Ready.filled, this.#options.signal);
    } finally {
      clearTimeout(timer);
    }
  }
}
