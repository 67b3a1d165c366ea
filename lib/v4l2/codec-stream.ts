// SPDX-License-Identifier: MIT
/**
 * Frames that a device makes of frames. One loop does all that a queue asks for, in an order that is the kernel's
 * (Documentation/userspace-api/media/v4l/dev-decoder.rst and dev-encoder.rst), and rests until something happens.
 *
 * @module
 */
import { constants as osConstants } from 'node:os';
import { type SystemError, systemError } from '../errors.js';
import type { Heap } from '../heap/heap.js';
import { native } from '../native.js';
import { videoError } from './advice.js';
import { type CodecInput, fillSlot, type Given, readInput } from './codec-input.js';
import type { CodecSide } from './codec-side.js';
import type { VideoDevice } from './device.js';
import type { Listener } from './events.js';
import type { Frame } from './frame.js';
import { FrameSource, type ReadyFrame } from './frame-source.js';
import { BufferQueue, type Done, type Slot } from './queue.js';
import { Ready } from './readiness.js';
import { joinStages, type Stage } from './report.js';

const { v4l2 } = native;
const { errno } = osConstants;

/** What a device makes of what, as far as this library has to know. */
export type CodecKind = 'encoder' | 'decoder' | 'converter';

/** Where input comes from. @internal */
export type CodecSource = AsyncIterator<CodecInput> | Iterator<CodecInput>;

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
  /** what the driver reads, V4L2's OUTPUT */
  readonly #input: BufferQueue;
  readonly #side: CodecSide;
  readonly #options: CheckedCodecOptions;
  /** undefined: it has ended, or was left */
  #source: CodecSource | undefined;
  #loop: Promise<void> | undefined;
  #over = false;
  #failure: { error: unknown } | undefined;

  /** whether the source is being asked, or its answer put into a buffer */
  #pulling = false;
  /** whether the driver is fed bytes; undefined before the first input */
  #copies: boolean | undefined;
  /** what the driver reads, by its slot */
  readonly #lent = new Map<Slot, Given>();
  /** the buffer that a slot had last: the kernel keeps its mapping */
  readonly #inodes = new Map<Slot, number>();
  #inputs = 0;

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
  #leaving: Promise<unknown> = Promise.resolve();

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
    if (key !== secret) throw new TypeError('A CodecStream is made by process()');
    // what it writes, V4L2's CAPTURE
    super(device, new BufferQueue(device, output.type));
    this.#input = new BufferQueue(device, input.type);
    this.#side = output;
    this.#options = options;
    this.#source = options.source;
  }

  /** Whether it has ended. Frames that it made before may still be there to be asked for. */
  override get closed(): boolean {
    return this.#over;
  }

  /** Inputs that the driver has got. */
  get inputs(): number {
    return this.#inputs;
  }

  /** Those of them that the driver could not read as they were (V4L2_BUF_FLAG_ERROR). */
  get damagedInputs(): number {
    return this.#input.damaged;
  }

  /** How often the frames of a stream have changed their size, each with new buffers. */
  get changes(): number {
    return this.#changes;
  }

  /** What went through it, for {@link pipelineReport}. @internal */
  override get stage(): Stage {
    return joinStages(this.#input.stage, this.output.stage, this.frames);
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
        await this.#leave();
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
    await this.#leave();
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
    this.#input.release();
    for (const given of this.#lent.values()) this.#release(given);
    this.#lent.clear();
    const source = this.#source;
    this.#source = undefined;
    // An iterator may have nothing to do at its end, and what it says there comes too late for anybody.
    this.#leaving = (async () => source?.return?.())().catch(() => {});
    this.#stir();
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  /** Waits for the end of the loop over the input, unless that waits itself for what may never come. */
  async #leave(): Promise<void> {
    if (!this.#pulling) await this.#leaving;
  }

  #release(given: Given): void {
    try {
      given.release();
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { signal } = this.#options;
    try {
      signal?.throwIfAborted();
      signal?.addEventListener('abort', this.#abort);
      while (!this.#over) {
        this.#stirred = false;
        this.#reap();
        this.#collect();
        this.#hear();
        if (this.#changed && (this.#last || !this.output.streaming)) {
          await this.#renew();
          continue;
        }
        if (this.#isDone()) return this.#end();
        this.#drain();
        void this.#pull();
        await this.#rest();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Takes back what the driver has read. */
  #reap(): void {
    while (this.#input.streaming) {
      const done = this.#input.dequeue();
      if (done === undefined) return;
      this.#silent = false;
      const { slot } = done;
      slot.holder = 'idle';
      const given = this.#lent.get(slot);
      this.#lent.delete(slot);
      given?.release();
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

  /** The source has ended, and everything of it is the driver's. */
  get #fed(): boolean {
    return this.#source === undefined && !this.#pulling;
  }

  /** Tells the driver that there is no more to come: it hands out what it still has. */
  #drain(): void {
    if (!this.#fed || this.#draining || this.#counting || this.#last || !this.output.streaming) return;
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
    if (!this.#fed) return false;
    if (this.#inputs === 0) return true;
    if (!this.output.streaming) {
      if (this.#input.queued > 0 && !this.#silent) return false;
      const advice = `It has met no picture in what it was given: is that ${this.#input.format?.pixelFormat}?`;
      throw systemError(-errno.EILSEQ, 'ioctl', this.device.path, advice);
    }
    if (this.#counting) return this.#input.queued === 0 && (this.frames >= this.#inputs || this.#silent);
    return this.#draining && this.#last;
  }

  /** Whether a silence is all that tells that nothing comes any more. */
  get #listening(): boolean {
    if (!this.#fed) return false;
    return this.#counting ? this.#input.queued === 0 && this.output.queued > 0 : !this.output.streaming;
  }

  /** Asks the source for one more, where there is a buffer for it. Never rejects. */
  async #pull(): Promise<void> {
    const source = this.#source;
    if (this.#pulling || source === undefined) return;
    if (this.#copies !== undefined && !this.#input.slots.some(({ holder }) => holder === 'idle')) return;
    this.#pulling = true;
    try {
      const result = await this.#ask(source);
      if (result.done === true) this.#source = undefined;
      else await this.#take(result.value);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#pulling = false;
      this.#stir();
    }
  }

  async #ask(source: CodecSource): Promise<IteratorResult<CodecInput>> {
    try {
      return await source.next();
    } catch (error) {
      // It has ended by that.
      this.#source = undefined;
      throw error;
    }
  }

  async #take(value: unknown): Promise<void> {
    const given = readInput(value, { syscall: 'ioctl', path: this.device.path });
    try {
      await this.#begin(given);
      if (this.#over) this.#release(given);
      else this.#give(given);
    } catch (error) {
      this.#release(given);
      throw error;
    }
  }

  /** Makes the queues for what the first input is. */
  async #begin(given: Given): Promise<void> {
    const copies = given.buffers === undefined;
    if (this.#copies !== undefined || this.#over) {
      if (this.#over || this.#copies === copies) return;
      const advice = `Its input began with ${copies ? 'buffers, and goes on with bytes' : 'bytes, and goes on with buffers'}: process() takes one or the other.`;
      throw systemError(-errno.EINVAL, 'ioctl', this.device.path, advice);
    }
    const { kind, inputCount } = this.#options;
    if (copies) await this.#input.allocate({ count: inputCount });
    else this.#input.reserve(inputCount);
    this.#copies = copies;
    if (this.#over) return;
    if (kind === 'decoder') this.#subscribe();
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

  #give(given: Given): void {
    const idle = this.#input.slots.filter(({ holder }) => holder === 'idle');
    const inode = given.buffers?.[0]?.inode;
    const slot = idle.find((one) => inode !== undefined && this.#inodes.get(one) === inode) ?? (idle[0] as Slot);
    if (given.frame !== undefined && [...this.#lent.values()].some(({ frame }) => frame === given.frame)) {
      throw systemError(-errno.EBUSY, 'ioctl', this.device.path, 'The driver has this frame already.');
    }
    const info = fillSlot(this.#input, slot, given, this.#options.kind === 'decoder');
    this.#input.enqueue(slot, info);
    this.#inputs++;
    this.#lent.set(slot, given);
    if (inode !== undefined) this.#inodes.set(slot, inode);
    if (!this.#input.streaming) this.#input.start();
  }

  /** There is a frame that nobody asks for, and nobody is to be told of inputs that were read. */
  get #unwanted(): boolean {
    return this.#ready.length > 0 && this.#waiters.length === 0 && ![...this.#lent.values()].some(({ told }) => told);
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
    const reads = this.#input.streaming && this.#input.queued > 0;
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
