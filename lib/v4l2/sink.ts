// SPDX-License-Identifier: MIT
/** Frames that are shown one after the other. @module */
import { constants as osConstants } from 'node:os';
import type { DmaBuf } from '../dmabuf.js';
import { DmaBufError, illegalConstructor, outOfRange, systemError } from '../errors.js';
import type { Heap } from '../heap/heap.js';
import type { VideoDevice } from './device.js';
import type { Format } from './formats.js';
import type { Frame } from './frame.js';
import { checkHandedOn } from './handed-on.js';
import { type BufferInfo, BufferQueue, type Slot } from './queue.js';
import { Ready } from './readiness.js';
import type { Stage } from './report.js';

const { errno } = osConstants;

/** Milliseconds after which a driver that gives nothing back is taken to keep what it has, at the least. */
const KEPT_MS = 1000;

/** The same in frames, where the driver says how long one is shown. */
const KEPT_FRAMES = 4;

/** What {@link Output.sink} has checked. @internal */
export interface CheckedSinkOptions {
  count: number;
  heap: Heap | undefined;
  signal: AbortSignal | undefined;
  /** whether others bring the buffers */
  lent: boolean;
}

const secret = Symbol('sink');

/** Gives a buffer to the driver with what is said of it, or back unshown. */
type End = (info: BufferInfo | undefined) => void;

const registry = new FinalizationRegistry<{ end: End; path: string }>(({ end, path }) => {
  end(undefined);
  process.emitWarning(
    `A frame for ${path} was left to the garbage collector: show() it, call close(), or declare it with \`using\``,
    { type: 'DmaBufWarning', code: 'DMABUF_NOT_CLOSED' },
  );
});

/** @internal */
export let makeSink: (device: VideoDevice, type: number, options: CheckedSinkOptions) => FrameSink;

/** @internal */
export let playFrame: (sink: FrameSink, frame: Frame) => Promise<void>;

/** A buffer to be filled and shown. From {@link FrameSink.acquire}. */
export class OutputFrame implements Disposable {
  /** what it is to look like */
  readonly format: Format;
  readonly #slot: Slot;
  #end: End | undefined;

  /** @internal */
  constructor(key: symbol, path: string, slot: Slot, format: Format, end: End) {
    if (key !== secret) throw illegalConstructor('An OutputFrame is made by acquire()');
    this.#slot = slot;
    this.format = format;
    this.#end = end;
    registry.register(this, { end, path }, end);
  }

  #open(): End {
    if (this.#end !== undefined) return this.#end;
    throw new DmaBufError('ERR_DMABUF_CLOSED', 'The frame was shown or closed: acquire() gives another', {
      errno: -errno.EBADF,
    });
  }

  /**
   * Its buffers, one for each plane.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED: it was shown or closed
   */
  get buffers(): readonly DmaBuf[] {
    this.#open();
    return this.#slot.buffers;
  }

  /**
   * Calls `fn` with the bytes of a plane, in a bracket for writing: as `DmaBuf.write`.
   *
   * @param plane - its index; default 0
   * @returns what `fn` returns
   * @throws RangeError ERR_OUT_OF_RANGE; DmaBufError ERR_DMABUF_CLOSED; what `DmaBuf.write` does
   */
  write<T>(fn: (bytes: Uint8Array<ArrayBuffer>) => T, plane = 0): T {
    const buffer = this.buffers[plane];
    if (buffer === undefined) throw outOfRange('plane', `an index below ${this.#slot.buffers.length}`, plane);
    return buffer.write(fn);
  }

  /**
   * Gives it to the driver, to be shown after those that were given before it. Where that fails it is still the
   * program's.
   *
   * @param info - what of its planes is in use, if not all; a compressed picture says its `bytesUsed`
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   * @throws DmaBufError ERR_DMABUF_CLOSED: it was shown or closed already; SystemError
   */
  show(info: BufferInfo = {}): void {
    const end = this.#open();
    end(info);
    this.#end = undefined;
    registry.unregister(end);
  }

  /** Does not show it. May be called twice, and after {@link OutputFrame.show}. */
  close(): void {
    const end = this.#end;
    this.#end = undefined;
    if (end === undefined) return;
    registry.unregister(end);
    end(undefined);
  }

  /** The same as {@link OutputFrame.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * The buffers of an {@link Output}: filled by the program, shown by the driver, and back again. From
 * {@link Output.sink}.
 */
export class FrameSink implements Disposable {
  readonly #device: VideoDevice;
  readonly #queue: BufferQueue;
  readonly #options: CheckedSinkOptions;
  /** frames whose buffers the driver has */
  readonly #lent = new Map<Slot, Frame>();
  #starting: Promise<void> | undefined;
  readonly #over = new AbortController();
  #closed = false;
  #failed: unknown;
  #pumping = false;

  static {
    makeSink = (device, type, options) => new FrameSink(secret, device, type, options);
    playFrame = (sink, frame) => sink.#play(frame);
  }

  private constructor(key: symbol, device: VideoDevice, type: number, options: CheckedSinkOptions) {
    if (key !== secret) throw illegalConstructor('A FrameSink is made by sink()');
    this.#device = device;
    this.#queue = new BufferQueue(device, type);
    this.#options = options;
  }

  /** @internal */
  get stage(): Stage {
    return this.#queue.stage;
  }

  /** Aborted at its end, with what went wrong or is an error from then on. @internal */
  get ended(): AbortSignal {
    return this.#over.signal;
  }

  /** Whether it has ended. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Frames that the driver has given back: shown, and another is now. */
  get shown(): number {
    return this.#queue.stage.count;
  }

  /** Those of them that the driver says it could not show as they were (V4L2_BUF_FLAG_ERROR). */
  get damaged(): number {
    return this.#queue.damaged;
  }

  /** Frames that the driver has: shown, or waiting for it. */
  get queued(): number {
    return this.#queue.queued;
  }

  /**
   * A buffer that the driver has no more use for. Waits until there is one.
   *
   * @throws SystemError EBUSY: `play()` brings the buffers of this one
   * @throws SystemError ENODEV: the device is gone; EIO: the driver does not go on; EBUSY: another program has the
   *   device; EFAULT, EINVAL: it does not take the buffers, the message says why; ENOMEM
   * @throws DmaBufError ERR_DMABUF_CLOSED; the reason of `signal`
   */
  async acquire(): Promise<OutputFrame> {
    const { path } = this.#device;
    if (this.#options.lent) {
      throw systemError(-errno.EBUSY, 'ioctl', path, 'play() brings its buffers: sink() has some to draw in.');
    }
    const slot = await this.#free();
    return new OutputFrame(secret, path, slot, this.#formatFor(slot), (info) => {
      if (this.#closed) {
        this.#queue.drop(slot);
        if (info !== undefined) throw this.#isClosed();
        return;
      }
      if (info === undefined) {
        slot.holder = 'idle';
        this.#device.readiness.wake();
        return;
      }
      this.#queue.checkInfo(slot, info);
      this.#show(slot, info);
    });
  }

  /**
   * Waits until all frames were shown. A driver keeps the last one until another comes, or the sink is closed; some keep
   * more. What it has given none of back for four frames' time, and a second, is taken to be kept.
   *
   * @returns how many it keeps: 1, which is shown now, unless the driver keeps more or has stopped; 0 where there was none
   * @throws what {@link FrameSink.acquire} does
   */
  async finish(): Promise<number> {
    const patience = this.#patience;
    while (this.#queue.queued > 1) {
      if (this.#reap()) continue;
      const limit = AbortSignal.timeout(patience);
      const signals = [limit, ...(this.#options.signal === undefined ? [] : [this.#options.signal])];
      try {
        await this.#device.readiness.wait(Ready.used, AbortSignal.any(signals));
      } catch (error) {
        if (error !== limit.reason) throw error;
        // It may have been this program that was late.
        if (!this.#reap()) break;
      }
      if (this.#closed && this.#failed === undefined) throw this.#isClosed();
    }
    if (this.#failed !== undefined) throw this.#failed;
    return this.#queue.queued;
  }

  /** Milliseconds without a frame given back that mean that none will be. */
  get #patience(): number {
    try {
      const { numerator, denominator } = this.#queue.port.interval();
      return Math.max(KEPT_MS, Math.ceil((KEPT_FRAMES * 1000 * numerator) / denominator));
    } catch (error) {
      // Most outputs do not say.
      if (this.#device.closed) throw error;
      return KEPT_MS;
    }
  }

  /** Ends it: VIDIOC_STREAMOFF, and the buffers are freed, those of frames not shown yet, too. May be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const { slots } = this.#queue;
    this.#queue.release();
    // Nobody can show what the program has.
    for (const slot of slots) if (slot.holder === 'program') this.#queue.drop(slot);
    for (const frame of this.#lent.values()) frame.close();
    this.#lent.clear();
    this.#device.readiness.rest();
    this.#over.abort(this.#failed ?? this.#isClosed());
  }

  /** The same as {@link FrameSink.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #isClosed(): DmaBufError {
    const message = `The frames of ${this.#device.path} have ended: sink() begins anew`;
    return new DmaBufError('ERR_DMABUF_CLOSED', message, { errno: -errno.EBADF, path: this.#device.path });
  }

  #begun(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    const { count, heap, lent } = this.#options;
    if (lent) this.#queue.reserve(count);
    else await this.#queue.allocate({ count, heap });
    if (this.#closed) this.#queue.release();
  }

  /** A slot that neither driver nor program had: the program's now. */
  async #free(prefer?: (slot: Slot) => boolean): Promise<Slot> {
    try {
      if (!this.#closed) {
        this.#options.signal?.throwIfAborted();
        await this.#begun();
      }
      for (;;) {
        if (this.#failed !== undefined) throw this.#failed;
        if (this.#closed) throw this.#isClosed();
        this.#options.signal?.throwIfAborted();
        while (this.#reap());
        const idle = this.#queue.slots.filter(({ holder }) => holder === 'idle');
        const slot = (prefer && idle.find(prefer)) ?? idle[0];
        if (slot !== undefined) {
          // At once: others may be waiting, too.
          slot.holder = 'program';
          return slot;
        }
        // A queue that has none is always ready, to say so.
        const which = this.#queue.streaming && this.#queue.queued > 0 ? Ready.used : Ready.wake;
        await this.#device.readiness.wait(which, this.#options.signal);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The format of a slot that was free a moment ago. */
  #formatFor(slot: Slot): Format {
    const { format } = this.#queue;
    if (format !== undefined) return format;
    this.#queue.drop(slot);
    throw this.#isClosed();
  }

  /** Takes back one that was shown. */
  #reap(): boolean {
    if (!this.#queue.streaming) return false;
    const done = this.#queue.dequeue();
    if (done === undefined) return false;
    done.slot.holder = 'idle';
    this.#lent.get(done.slot)?.close();
    this.#lent.delete(done.slot);
    return true;
  }

  #show(slot: Slot, info: BufferInfo): void {
    this.#queue.enqueue(slot, info);
    if (!this.#queue.streaming) {
      try {
        this.#queue.start();
      } catch (error) {
        this.close();
        throw error;
      }
    }
    // Who waits for a buffer waits for the driver now.
    this.#device.readiness.wake();
  }

  async #play(frame: Frame): Promise<void> {
    const { buffers } = frame;
    if ([...this.#lent.values()].includes(frame)) {
      throw systemError(-errno.EBUSY, 'ioctl', this.#device.path, 'The driver has this frame already.');
    }
    // The kernel keeps the mapping of a buffer that comes back in the same slot.
    const slot = await this.#free((one) => one.buffers[0]?.inode === buffers[0]?.inode);
    const format = this.#formatFor(slot);
    checkHandedOn(frame, { queue: this.#queue, input: false, compressed: false });
    this.#queue.checkBuffers(buffers, format, 'frame.buffers', true);
    slot.buffers = buffers;
    const planes = frame.planes.map(({ bytesUsed, dataOffset }) => ({ bytesUsed, dataOffset }));
    this.#show(slot, { planes, timestamp: frame.timestamp, field: frame.field });
    this.#lent.set(slot, frame);
    this.#pump();
  }

  /** Gives frames back as soon as they were shown: their camera may have no other. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    void (async () => {
      try {
        while (!this.#closed && this.#queue.queued > 0) {
          if (!this.#reap()) await this.#device.readiness.wait(Ready.used, this.#options.signal);
        }
      } catch (error) {
        this.#failed ??= error;
        // With the frames it has: who is to bring the next one may have no other.
        this.close();
      } finally {
        this.#pumping = false;
      }
    })();
  }
}
