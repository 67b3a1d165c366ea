// SPDX-License-Identifier: MIT
/** Devices that frames come from: cameras. @module */
import { constants as osConstants } from 'node:os';
import { checkFlag, checkInteger, checkOptionNames, checkOptions } from '../arguments.js';
import { DmaBuf } from '../dmabuf.js';
import { illegalConstructor, invalidType, invalidValue, systemError } from '../errors.js';
import { checkWaitOptions, type WaitOptions } from '../fences.js';
import { Heap } from '../heap/heap.js';
import { native } from '../native.js';
import { OneWayDevice, type Opened } from './device.js';
import { openChoice, type VideoDeviceChoice } from './devices.js';
import { BufferQueue } from './queue.js';
import { type FrameStream, startFrames } from './stream.js';

const { v4l2 } = native;

/** Options of {@link Capture.frames}. */
export interface FramesOptions extends WaitOptions {
  /** buffers, from 1 to 32; default 4. A driver that wants more gets more. */
  count?: number;
  /** what the buffers are allocated from; default: the driver's own memory, exported (VIDIOC_EXPBUF) */
  heap?: Heap;
  /**
   * Buffers of the program's instead, which stay its own: one for each frame, or a list of one for each plane. What
   * they are large enough for is in {@link OneWayDevice.format}.
   */
  buffers?: readonly (DmaBuf | readonly DmaBuf[])[];
  /**
   * true: only the newest frame is of interest, and those that a slow loop has let wait are given back unseen
   * ({@link FrameStream.skipped}). Default false: each frame that the driver had a buffer for.
   */
  latest?: boolean;
}

const optionNames = ['count', 'heap', 'buffers', 'latest', 'signal'] satisfies (keyof FramesOptions)[];

const secret = Symbol('capture');

/** An open camera, or what else frames come from. */
export class Capture extends OneWayDevice {
  #stream: FrameStream | undefined;

  private constructor(key: symbol, opened: Opened, type: number) {
    if (key !== secret) throw illegalConstructor('A Capture is made by Capture.open()');
    super(opened, 'Capture', type);
  }

  /**
   * Opens a device that frames come from.
   *
   * @param which - its path, or what it is called; default: the first there is
   * @throws SystemError ENOENT, ENODEV: there is none, the message says which there are; EACCES; ENOTTY: no V4L2
   *   device; ENOTSUP: frames do not come from it
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  static open(which: string | VideoDeviceChoice = {}): Capture {
    const opened = openChoice(which, 'capture');
    const multiplanar = (opened.capability.capabilities & v4l2.CAP_VIDEO_CAPTURE_MPLANE) !== 0;
    const type = multiplanar ? v4l2.BUF_TYPE_VIDEO_CAPTURE_MPLANE : v4l2.BUF_TYPE_VIDEO_CAPTURE;
    return new Capture(secret, opened, type);
  }

  /**
   * The frames, in the format the device has now, until the loop is left.
   *
   * A frame's buffers go back to the driver when it is closed. A driver that has none left drops what it captures, and
   * goes on: {@link FrameStream.dropped} counts that. Where the program holds all frames at once, the loop waits until
   * one is closed.
   *
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   * @throws SystemError EBUSY: there is such a loop already; DmaBufError ERR_DMABUF_CLOSED
   */
  frames(options: FramesOptions = {}): FrameStream {
    const call = { syscall: 'ioctl', path: this.path };
    checkOptions(options, 'options', call);
    checkOptionNames(options, optionNames, call);
    const { count, heap, buffers, latest, signal } = options;
    if (count !== undefined) checkInteger(count, 'count', 1, v4l2.MAX_FRAME, call);
    if (heap !== undefined && !(heap instanceof Heap)) throw invalidType('heap', 'an instance of Heap', heap, call);
    checkFlag(latest, 'latest', call);
    const wait = checkWaitOptions(signal === undefined ? {} : { signal }, 'ioctl');
    let lists: (readonly DmaBuf[])[] | undefined;
    if (buffers !== undefined) {
      if (heap !== undefined) throw invalidValue('buffers', "are there already: leave it or 'heap' out", call);
      if (count !== undefined) throw invalidValue('buffers', "are as many as they are: leave 'count' out", call);
      if (!Array.isArray(buffers)) throw invalidType('buffers', 'an array', buffers, call);
      lists = buffers.map((frame: DmaBuf | readonly DmaBuf[]) => (frame instanceof DmaBuf ? [frame] : frame));
      checkInteger(lists.length, 'buffers.length', 1, v4l2.MAX_FRAME, call);
    }
    this.owned.get('ioctl');
    if (this.#stream !== undefined && !this.#stream.closed) {
      const advice = 'A loop over its frames is there already: leave it, or close() it, first.';
      throw systemError(-osConstants.errno.EBUSY, 'ioctl', this.path, advice);
    }
    this.#stream = startFrames(this, new BufferQueue(this, this.port.type), {
      count: count ?? 4,
      heap,
      buffers: lists,
      latest: latest ?? false,
      signal: wait,
    });
    return this.#stream;
  }

  /** @internal */
  protected override endStreams(): void {
    this.#stream?.close();
  }
}
