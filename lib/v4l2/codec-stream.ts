// SPDX-License-Identifier: MIT
/**
 * Frames that a device makes of frames. One loop does all that a queue asks for, in an order that is the kernel's
 * (Documentation/userspace-api/media/v4l/dev-decoder.rst and dev-encoder.rst), and rests until something happens.
 *
 * @module
 */
import { constants as osConstants } from 'node:os';
import { illegalConstructor, type SystemError, systemError } from '../errors.js';
import type { Heap } from '../heap/heap.js';
import { native } from '../native.js';
import { videoError } from './advice.js';
import { CodecFeed, type CodecFeedListener, type CodecSource } from './codec-feed.js';
import type { CodecSide } from './codec-side.js';
import type { VideoDevice } from './device.js';
import type { Listener } from './events.js';
import type { Frame } from './frame.js';
import { FrameSource, type ReadyFrame } from './frame-source.js';
import { BufferQueue, type Done } from './queue.js';
import { Ready } from './readiness.js';
import { joinStages, type Stage } from './report.js';

const { v4l2 } = native;
const { errno } = osConstants;

/** What a device makes of what, as far as this library has to know. */
export type CodecKind = 'encoder' | 'decoder' | 'converter';

/** What {@link Codec.process} has checked. @internal */
export interface CheckedCodecOptions {
  kind: CodecKind;
  source: CodecSource;
  count: number;
  inputCount: number;
  heap: Heap | undefined;
  signal: AbortSignal | undefined;
}

/** Milliseconds a driver may need for what it still has, where nothing but silence tells that it has no more. */
const SILENCE_MS = 1000;

const secret = Symbol('codec stream');

/** @internal */
export let startCodec: (
  device: VideoDevice,
  input: CodecSide,
  output: CodecSide,
  options: CheckedCodecOptions,
) => CodecStream;

/**
 * What comes out of a {@link Codec}. Begins when the first frame is asked for, and ends with the last one, with the loop
 * over it, with {@link CodecStream.close}, or with an error: then nothing streams any more, the loop over the input is
 * left, its frames are closed, and all buffers are freed, but for those of frames that are not closed yet.
 */
export class CodecStream extends FrameSource {
  /** fills what the driver reads, V4L2's OUTPUT */
  readonly #feed: CodecFeed;
  readonly #side: CodecSide;
  readonly #options: CheckedCodecOptions;
  #loop: Promise<void> | undefined;
  #over = false;
  #failure: { error: unknown } | undefined;

  /** hears of changes of what comes out, where the driver tells of them */
  #listener: Listener | undefined;
  /** the driver has said that what comes out has another size from here on */
  #changed = false;
  /** nothing comes out any more, until it is told to go on */
  #last = false;
  /** the driver was told that there is no more input */
  #draining = false;
  /** a driver that knows no such command: it is done when as many came out as went in */
  #counting = false;
  #silent = false;

  /** taken from the driver, and not asked for yet: no frames before they are, for those lead back here */
  readonly #ready: ReadyFrame[] = [];
  #changes = 0;

  /** something has happened while the loop was at work */
  #stirred = false;
  #resume: (() => void) | undefined;
  #waiters: (() => void)[] = [];

  static {
    startCodec = (device, input, output, options) => new CodecStream(secret, device, input, output, options);
  }

  private constructor(
    key: symbol,
    device: VideoDevice,
    input: CodecSide,
    output: CodecSide,
    options: CheckedCodecOptions,
  ) {
    if (key !== secret) throw illegalConstructor('A CodecStream is made by process()');
    // what it writes, V4L2's CAPTURE
    super(device, new BufferQueue(device, output.type));
    this.#side = output;
    this.#options = options;
    const { kind, source, inputCount } = options;
    const told: CodecFeedListener = {
      begin: () => this.#begin(),
      stir: () => this.#stir(),
      fail: (error) => this.#fail(error),
      mishap: (error) => {
        this.#failure ??= { error };
      },
    };
    const queue = new BufferQueue(device, input.type);
    this.#feed = new CodecFeed(device, queue, { source, inputCount, pieces: kind === 'decoder' }, told);
  }

  /** Whether it has ended. Frames that it made before may still be there to be asked for. */
  override get closed(): boolean {
    return this.#over;
  }

  /** Inputs that the driver has got. */
  get inputs(): number {
    return this.#feed.inputs;
  }

  /** Those of them that the driver could not read as they were (V4L2_BUF_FLAG_ERROR). */
  get damagedInputs(): number {
    return this.#feed.queue.damaged;
  }

  /** How often the frames of a stream have changed their size, each with new buffers. */
  get changes(): number {
    return this.#changes;
  }

  /** What went through it, for {@link pipelineReport}. @internal */
  override get stage(): Stage {
    return joinStages(this.#feed.queue.stage, this.output.stage, this.frames);
  }

  /**
   * The next frame. A loop calls it.
   *
   * @throws SystemError EINVAL: an input has another format, the message says which; EFAULT: the driver does not take its
   *   buffers, the message says why; EILSEQ: a decoder has met no picture; ENODEV: the device is gone; EIO: the driver
   *   does not go on; EBUSY: a frame was handed over twice; ENOMEM
   * @throws RangeError ERR_OUT_OF_RANGE: an input is too large for the driver's buffers, or too small for a plane
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE: an input is none
   * @throws what the input's own iterator does; DmaBufError ERR_DMABUF_CLOSED; the reason of `signal`
   */
  override async next(): Promise<IteratorResult<Frame, undefined>> {
    if (!this.#over) this.#loop ??= this.#run();
    for (;;) {
      const ready = this.#ready.shift();
      if (ready !== undefined) {
        this.#stir();
        return { value: this.frameOf(ready), done: false };
      }
      if (this.#over) {
        await this.#feed.left();
        const failure = this.#failure;
        this.#failure = undefined;
        if (failure !== undefined) throw failure.error;
        return { value: undefined, done: true };
      }
      await new Promise<void>((resolve) => {
        this.#waiters.push(resolve);
        this.#stir();
      });
    }
  }

  /** Leaves the loop, and that over the input: ends the stream. */
  override async return(): Promise<IteratorResult<Frame, undefined>> {
    this.close();
    await this.#feed.left();
    return { value: undefined, done: true };
  }

  /** Ends it. Frames that the program has still show what they showed. May be called twice. */
  override close(): void {
    this.#end();
    for (const { done } of this.#ready.splice(0)) this.giveBack(done.slot);
  }

  /** @internal */
  protected override gaveBack(error?: unknown): void {
    if (error === undefined) this.#stir();
    else this.#fail(error);
  }

  /** Lets the loop look again. */
  #stir(): void {
    this.#stirred = true;
    this.#resume?.();
  }

  #fail(error: unknown): void {
    if (!this.#over) this.#failure = { error };
    this.#end();
  }

  readonly #abort = (): void => {
    this.#fail(this.#options.signal?.reason);
    this.close();
  };

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#options.signal?.removeEventListener('abort', this.#abort);
    this.#listener?.end();
    this.output.release();
    this.#feed.end();
    this.#stir();
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { signal } = this.#options;
    try {
      signal?.throwIfAborted();
      signal?.addEventListener('abort', this.#abort);
      while (!this.#over) {
        this.#stirred = false;
        if (this.#feed.reap()) this.#silent = false;
        this.#collect();
        this.#hear();
        if (this.#changed && (this.#last || !this.output.streaming)) {
          await this.#renew();
          continue;
        }
        if (this.#isDone()) return this.#end();
        this.#drain();
        void this.#feed.pull();
        await this.#rest();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Takes what it has written. */
  #collect(): void {
    while (this.output.streaming && !this.#last) {
      const done = this.#dequeue();
      if (done === undefined) return;
      this.#silent = false;
      const { slot, flags, planes } = done;
      this.#last = (flags & v4l2.BUF_FLAG_LAST) !== 0;
      if (this.#last && planes.every(({ bytesUsed }) => bytesUsed === 0)) {
        slot.holder = 'idle';
        continue;
      }
      this.#ready.push(this.cameOut(done));
      this.#waiters.shift()?.();
    }
  }

  #dequeue(): Done | undefined {
    try {
      return this.output.dequeue();
    } catch (error) {
      // Some drivers do not mark the last one.
      if ((error as SystemError).errno !== -errno.EPIPE) throw error;
      this.#last = true;
      return undefined;
    }
  }

  #hear(): void {
    for (;;) {
      const event = this.#listener?.next();
      if (event === undefined) return;
      if (event.type === 'source-change' && event.resolution) this.#changed = true;
    }
  }

  /** New buffers for frames of the format that there is now. */
  async #renew(): Promise<void> {
    if (this.output.format !== undefined) this.#changes++;
    this.#changed = false;
    this.#last = false;
    this.#draining = false;
    this.output.release();
    const { wanted } = this.#side;
    if (wanted !== undefined && this.output.port.format.pixelFormat !== wanted) {
      this.output.port.setFormat({ pixelFormat: wanted });
    }
    await this.#open();
  }

  async #open(): Promise<void> {
    const { count, heap } = this.#options;
    await this.output.allocate({ count, heap });
    if (this.#over) {
      this.output.release();
      return;
    }
    for (const slot of this.output.slots) this.output.enqueue(slot);
    this.output.start();
  }

  /** Tells the driver that there is no more to come: it hands out what it still has. */
  #drain(): void {
    if (!this.#feed.done || this.#draining || this.#counting || this.#last || !this.output.streaming) return;
    const encoder = this.#options.kind === 'encoder';
    const command = encoder ? v4l2.ENC_CMD_STOP : v4l2.DEC_CMD_STOP;
    const error =
      this.#options.kind === 'converter'
        ? -errno.ENOTTY
        : native.v4l2CodecCommand(this.device.owned.get('ioctl'), encoder, command, 0);
    if (error === -errno.ENOTTY) this.#counting = true;
    // it does so already
    else if (error < 0 && error !== -errno.EBUSY) {
      throw videoError(error, encoder ? 'VIDIOC_ENCODER_CMD' : 'VIDIOC_DECODER_CMD', this.device.path);
    } else this.#draining = true;
  }

  #isDone(): boolean {
    if (!this.#feed.done) return false;
    if (this.#feed.inputs === 0) return true;
    if (!this.output.streaming) {
      if (this.#feed.queue.queued > 0 && !this.#silent) return false;
      const advice = `It has met no picture in what it was given: is that ${this.#feed.queue.format?.pixelFormat}?`;
      throw systemError(-errno.EILSEQ, 'ioctl', this.device.path, advice);
    }
    if (this.#counting) return this.#feed.queue.queued === 0 && (this.frames >= this.#feed.inputs || this.#silent);
    return this.#draining && this.#last;
  }

  /** Whether a silence is all that tells that nothing comes any more. */
  get #listening(): boolean {
    if (!this.#feed.done) return false;
    return this.#counting ? this.#feed.queue.queued === 0 && this.output.queued > 0 : !this.output.streaming;
  }

  /** What comes out, where the driver does not say first what that is. */
  async #begin(): Promise<void> {
    if (this.#options.kind === 'decoder') this.#subscribe();
    if (this.#listener === undefined) await this.#open();
  }

  /** A driver that does not tell of a change has none, and its output can be used at once. */
  #subscribe(): void {
    try {
      this.#listener = this.device.told.listen([['source-change', 0]], false);
    } catch (error) {
      if (![errno.EINVAL, errno.ENOTTY].includes(-((error as SystemError).errno ?? 0))) throw error;
    }
  }

  /** There is a frame that nobody asks for, and nobody is to be told of inputs that were read. */
  get #unwanted(): boolean {
    return this.#ready.length > 0 && this.#waiters.length === 0 && !this.#feed.awaited;
  }

  /** Until something happens. */
  async #rest(): Promise<void> {
    if (this.#stirred || this.#over) return;
    if (this.#unwanted) {
      // Nothing keeps a stream alive that nobody asks.
      await new Promise<void>((resolve) => {
        this.#resume = resolve;
      });
      this.#resume = undefined;
      return;
    }
    const timer = this.#listening
      ? setTimeout(() => this.#hush(), SILENCE_MS)
      : this.tellWhere(
          () => this.#waiters.length > 0 && this.output.streaming && this.output.queued === 0 && !this.#last,
        );
    const events = this.#awaited();
    try {
      // A driver without any buffer answers POLLERR at once, and for ever (v4l2_m2m_poll).
      if (events === 0) {
        await new Promise<void>((resolve) => {
          this.#resume = resolve;
        });
      } else {
        this.#resume = () => this.device.readiness.wake();
        await this.device.readiness.wait(events);
      }
    } finally {
      clearTimeout(timer);
      this.#resume = undefined;
    }
  }

  #awaited(): number {
    const reads = this.#feed.queue.streaming && this.#feed.queue.queued > 0;
    const writes = this.output.streaming && this.output.queued > 0;
    if (!reads && !writes) return 0;
    return (
      (reads ? Ready.used : 0) |
      // Once the last one was taken, there seems to be one for ever.
      (writes && !this.#last ? Ready.filled : 0) |
      (this.#listener !== undefined ? Ready.event : 0)
    );
  }

  #hush(): void {
    this.#silent = true;
    this.#stir();
  }
}
