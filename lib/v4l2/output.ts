// SPDX-License-Identifier: MIT
/** Devices that frames go to. @module */
import { constants as osConstants } from 'node:os';
import { checkInteger, checkOptionNames, checkOptions } from '../arguments.js';
import { illegalConstructor, invalidType, systemError } from '../errors.js';
import { checkWaitOptions, type WaitOptions } from '../fences.js';
import { Heap } from '../heap/heap.js';
import { native } from '../native.js';
import { OneWayDevice, type Opened } from './device.js';
import { openChoice, type VideoDeviceChoice } from './devices.js';
import { Frame } from './frame.js';
import { type FrameSink, makeSink, playFrame } from './sink.js';
import { until } from './until.js';

const { v4l2 } = native;

/** Options of {@link Output.sink}. */
export interface SinkOptions extends WaitOptions {
  /** buffers, from 1 to 32; default 4. A driver that wants more gets more. */
  count?: number;
  /** what the buffers are allocated from; default: the driver's own memory, exported (VIDIOC_EXPBUF) */
  heap?: Heap;
}

/** Options of {@link Output.play}. */
export interface PlayOptions extends WaitOptions {
  /** frames the driver may have at a time, from 1 to 32; default 4 */
  count?: number;
  /** told the sink as soon as there is one: for {@link pipelineReport} */
  started?: (sink: FrameSink) => void;
}

const secret = Symbol('output');

/** An open device that frames go to: a display, a loopback. */
export class Output extends OneWayDevice {
  #sink: FrameSink | undefined;

  private constructor(key: symbol, opened: Opened, type: number) {
    if (key !== secret) throw illegalConstructor('An Output is made by Output.open()');
    super(opened, 'Output', type);
  }

  /**
   * Opens a device that frames go to.
   *
   * @param which - its path, or what it is called; default: the first there is
   * @throws SystemError ENOENT, ENODEV: there is none, the message says which there are; EACCES; ENOTTY: no V4L2
   *   device; ENOTSUP: frames do not go to it
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  static open(which: string | VideoDeviceChoice = {}): Output {
    const opened = openChoice(which, 'output');
    const multiplanar = (opened.capability.capabilities & v4l2.CAP_VIDEO_OUTPUT_MPLANE) !== 0;
    return new Output(secret, opened, multiplanar ? v4l2.BUF_TYPE_VIDEO_OUTPUT_MPLANE : v4l2.BUF_TYPE_VIDEO_OUTPUT);
  }

  /**
   * Buffers for frames in the format the device has now, to be filled by the program.
   *
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   * @throws SystemError EBUSY: there is such a sink already; DmaBufError ERR_DMABUF_CLOSED
   */
  sink(options: SinkOptions = {}): FrameSink {
    const call = { syscall: 'ioctl', path: this.path };
    checkOptions(options, 'options', call);
    checkOptionNames(options, ['count', 'heap', 'signal'] satisfies (keyof SinkOptions)[], call);
    const { count = 4, heap, signal } = options;
    if (heap !== undefined && !(heap instanceof Heap)) throw invalidType('heap', 'an instance of Heap', heap, call);
    return this.#make(count, heap, signal, false);
  }

  /**
   * Shows frames of another device, in the buffers they are in. Each is closed, and so goes back to where it came from,
   * when the driver has no more use for it; the loop over `frames` ends with this one, as it does by the signal and with
   * the device, also while no frame comes.
   *
   * @param frames - what {@link Capture.frames} answers, or what a program makes of it
   * @returns how many frames were shown: those that came back, and the one that the driver keeps until it is told to end,
   *   which is now. Where that is less than there were, it had stopped, or keeps more.
   * @throws SystemError EINVAL: the frames have another format than the device, the message says which; EBUSY: one came
   *   again before it was shown; EFAULT: it does not take their buffers, the message says why; and what
   *   {@link FrameSink.acquire} does
   * @throws what `frames` throws
   */
  async play(frames: AsyncIterable<Frame>, options: PlayOptions = {}): Promise<number> {
    const call = { syscall: 'ioctl', path: this.path };
    if (typeof frames !== 'object' || frames === null || !(Symbol.asyncIterator in frames)) {
      throw invalidType('frames', 'an async iterable of frames', frames, call);
    }
    checkOptions(options, 'options', call);
    checkOptionNames(options, ['count', 'started', 'signal'] satisfies (keyof PlayOptions)[], call);
    const { count = 4, started, signal } = options;
    if (started !== undefined && typeof started !== 'function') {
      throw invalidType('started', 'of type function', started, call);
    }
    using sink = this.#make(count, undefined, signal, true);
    started?.(sink);
    const end = signal === undefined ? sink.ended : AbortSignal.any([sink.ended, signal]);
    for await (const frame of until(end, frames)) {
      if (!(frame instanceof Frame)) throw invalidType('frames', 'of instances of Frame', frame, call);
      try {
        await playFrame(sink, frame);
      } catch (error) {
        // First the driver: it may have that frame.
        sink.close();
        frame.close();
        throw error;
      }
    }
    const kept = await sink.finish();
    return sink.shown + Math.min(kept, 1);
  }

  #make(count: unknown, heap: Heap | undefined, signal: AbortSignal | undefined, lent: boolean): FrameSink {
    checkInteger(count, 'count', 1, v4l2.MAX_FRAME, { syscall: 'ioctl', path: this.path });
    const wait = checkWaitOptions(signal === undefined ? {} : { signal }, 'ioctl');
    this.owned.get('ioctl');
    if (this.#sink !== undefined && !this.#sink.closed) {
      const advice = 'Frames go to it already: close() that sink, or wait for the end of play(), first.';
      throw systemError(-osConstants.errno.EBUSY, 'ioctl', this.path, advice);
    }
    this.#sink = makeSink(this, this.port.type, { count, heap, signal: wait, lent });
    return this.#sink;
  }

  /** @internal */
  protected override endStreams(): void {
    this.#sink?.close();
  }
}
