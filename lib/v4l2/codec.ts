// SPDX-License-Identifier: MIT
/** Devices that make frames of frames: encoders, decoders and converters. @module */
import { constants as osConstants } from 'node:os';
import { checkInteger, checkOptionNames, checkOptions } from '../arguments.js';
import { type Call, illegalConstructor, invalidType, systemError } from '../errors.js';
import { checkWaitOptions, type WaitOptions } from '../fences.js';
import { Heap } from '../heap/heap.js';
import { native } from '../native.js';
import type { CodecSource } from './codec-feed.js';
import type { CodecInput } from './codec-input.js';
import { CodecSide } from './codec-side.js';
import { type CodecKind, type CodecStream, startCodec } from './codec-stream.js';
import { type Opened, openNode, VideoDevice } from './device.js';
import { type Need, openChoice, type VideoDeviceChoice } from './devices.js';
import { fourccCode } from './fourcc.js';

const { v4l2 } = native;

/** What codec to open: the first device that has all of what is said. */
export interface CodecChoice extends VideoDeviceChoice {
  /** the pixel format of what goes in, such as `'NV12'`; the codec is set to it */
  from?: string;
  /** the pixel format of what comes out, such as `'H264'`; the codec is set to it */
  to?: string;
}

/** Options of {@link Codec.process}. */
export interface ProcessOptions extends WaitOptions {
  /** buffers for what comes out, from 1 to 32; default 4. A driver that wants more gets more. */
  count?: number;
  /** inputs that the driver may have at a time, from 1 to 32; default 4 */
  inputCount?: number;
  /** what the buffers for what comes out are allocated from; default: the driver's own memory, exported (VIDIOC_EXPBUF) */
  heap?: Heap;
}

const secret = Symbol('codec');

/**
 * An open codec. Each has its own formats and frames: a device may be opened several times, by several programs, and
 * works for them by turns.
 */
export class Codec extends VideoDevice {
  /** What goes into it; in V4L2 its OUTPUT queue. */
  readonly input: CodecSide;
  /** What comes out of it; in V4L2 its CAPTURE queue. */
  readonly output: CodecSide;
  #stream: CodecStream | undefined;

  private constructor(key: symbol, opened: Opened) {
    if (key !== secret) throw illegalConstructor('A Codec is made by Codec.open()');
    super(opened, 'Codec');
    const { capabilities } = opened.capability;
    const side = (planes: number, multi: number, single: number) =>
      new CodecSide(() => this.owned.get('ioctl'), (capabilities & planes) !== 0 ? multi : single, opened.path);
    const output = v4l2.CAP_VIDEO_M2M_MPLANE | v4l2.CAP_VIDEO_CAPTURE_MPLANE;
    const input = v4l2.CAP_VIDEO_M2M_MPLANE | v4l2.CAP_VIDEO_OUTPUT_MPLANE;
    this.input = side(input, v4l2.BUF_TYPE_VIDEO_OUTPUT_MPLANE, v4l2.BUF_TYPE_VIDEO_OUTPUT);
    this.output = side(output, v4l2.BUF_TYPE_VIDEO_CAPTURE_MPLANE, v4l2.BUF_TYPE_VIDEO_CAPTURE);
  }

  /**
   * Opens a device that makes frames of frames.
   *
   * @param which - its path, what it is called, or what it is to make of what; default: the first there is
   * @throws SystemError ENOENT, ENODEV: there is none, the message says which there are; EACCES; ENOTTY: no V4L2
   *   device; ENOTSUP: it does something else
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  static open(which: string | CodecChoice = {}): Codec {
    if (typeof which !== 'object' || which === null) return new Codec(secret, openChoice(which, 'm2m'));
    const { from, to, ...others } = which;
    if (from !== undefined) fourccCode(from);
    if (to !== undefined) fourccCode(to);
    const codec = new Codec(secret, openChoice(others, 'm2m', needOf(from, to)));
    try {
      if (from !== undefined) codec.input.setFormat({ pixelFormat: from });
      if (to !== undefined) codec.output.setFormat({ pixelFormat: to });
    } catch (error) {
      codec.close();
      throw error;
    }
    return codec;
  }

  /** @internal */
  static opened(opened: Opened): Codec {
    return new Codec(secret, opened);
  }

  /**
   * What it does with the formats it has now: an encoder puts out a compressed one, a decoder takes one in.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  get kind(): CodecKind {
    if (isCompressed(this.output)) return 'encoder';
    return isCompressed(this.input) ? 'decoder' : 'converter';
  }

  /**
   * What the device makes of frames, in the formats it has now, until the input has ended and all has come out.
   *
   * The first input says how all go in: buffers are read where they are, bytes are copied. Input is asked for as far as
   * the driver has buffers for it, and no further; where the program holds all frames that came out, all waits until one
   * is closed. A decoder that meets pictures of another size hands out those before, and goes on with new buffers: each
   * frame has its own format. Where the driver marks an input as broken, what it made of it is {@link Frame.damaged}.
   *
   * @param frames - pictures for an encoder or a converter; pieces of the stream, in any sizes the driver has room for, for
   *   a decoder
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   * @throws SystemError EBUSY: there is such a loop already; DmaBufError ERR_DMABUF_CLOSED
   */
  process(frames: AsyncIterable<CodecInput> | Iterable<CodecInput>, options: ProcessOptions = {}): CodecStream {
    const call = { syscall: 'ioctl', path: this.path };
    checkOptions(options, 'options', call);
    checkOptionNames(options, ['count', 'inputCount', 'heap', 'signal'] satisfies (keyof ProcessOptions)[], call);
    const { count = 4, inputCount = 4, heap, signal } = options;
    checkInteger(count, 'count', 1, v4l2.MAX_FRAME, call);
    checkInteger(inputCount, 'inputCount', 1, v4l2.MAX_FRAME, call);
    if (heap !== undefined && !(heap instanceof Heap)) throw invalidType('heap', 'an instance of Heap', heap, call);
    const wait = checkWaitOptions(signal === undefined ? {} : { signal }, 'ioctl');
    const { kind } = this;
    if (this.#stream !== undefined && !this.#stream.closed) {
      const advice = 'It is at work already: leave that loop, or close() it, first.';
      throw systemError(-osConstants.errno.EBUSY, 'ioctl', this.path, advice);
    }
    const source = sourceOf(frames, call);
    this.#stream = startCodec(this, this.input, this.output, { kind, source, count, inputCount, heap, signal: wait });
    return this.#stream;
  }

  /** @internal */
  protected override endStreams(): void {
    this.#stream?.close();
  }
}

function isCompressed(side: CodecSide): boolean {
  const { pixelFormat } = side.format;
  return side.formats().some((info) => info.pixelFormat === pixelFormat && info.compressed);
}

function sourceOf(frames: unknown, call: Call): CodecSource {
  const expected = 'an async iterable, or an iterable, of what goes in';
  // A string and an array of bytes can be iterated over, too, and never are what is meant.
  if (typeof frames !== 'object' || frames === null || ArrayBuffer.isView(frames)) {
    throw invalidType('frames', expected, frames, call);
  }
  if (Symbol.asyncIterator in frames) return (frames as AsyncIterable<CodecInput>)[Symbol.asyncIterator]();
  if (Symbol.iterator in frames) return (frames as Iterable<CodecInput>)[Symbol.iterator]();
  throw invalidType('frames', expected, frames, call);
}

function needOf(from: string | undefined, to: string | undefined): Need | undefined {
  if (from === undefined && to === undefined) return undefined;
  const has = (side: CodecSide, wanted: string | undefined) =>
    wanted === undefined || side.formats().some(({ pixelFormat }) => pixelFormat === wanted);
  return {
    says: [from === undefined ? [] : `from '${from}'`, to === undefined ? [] : `to '${to}'`].flat().join(' '),
    fits: (path) => {
      try {
        using codec = Codec.opened(openNode(path));
        return has(codec.input, from) && has(codec.output, to);
      } catch {
        // Those that come after it may fit: this one may be gone, or be another program's for now.
        return false;
      }
    },
  };
}
