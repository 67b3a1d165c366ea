// SPDX-License-Identifier: MIT
/** What goes into a codec, and what comes out of it: each has a format of its own. @module */
import { constants as osConstants } from 'node:os';
import { type Handle, native } from '../native.js';
import { videoError } from './advice.js';
import { type Format, type FormatRequest, type FrameSize, type PixelFormatInfo, Port } from './formats.js';

const { v4l2 } = native;
const { errno } = osConstants;

/** A part of a frame, in pixels. */
export interface PictureArea {
  /** pixels from the left */
  readonly left: number;
  /** rows from the top */
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** One side of a {@link Codec}: {@link Codec.input} or {@link Codec.output}. */
export class CodecSide {
  readonly #device: () => Handle;
  readonly #path: string;
  /** @internal */
  readonly port: Port;
  /** the pixel format that was asked for, which what is decoded is to have whatever its size is @internal */
  wanted: string | undefined;

  /** @internal */
  constructor(device: () => Handle, type: number, path: string) {
    this.#device = device;
    this.#path = path;
    this.port = new Port(device, type, path);
  }

  /** Whether its frames may have several buffers, one for each plane. */
  get multiplanar(): boolean {
    return this.port.multiplanar;
  }

  /**
   * The pixel formats it has (VIDIOC_ENUM_FMT).
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  formats(): PixelFormatInfo[] {
    return this.port.formats();
  }

  /**
   * The sizes it has for a pixel format (VIDIOC_ENUM_FRAMESIZES); none where the driver does not say, or there is no
   * such format.
   *
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  sizes(pixelFormat: string): FrameSize[] {
    return this.port.sizes(pixelFormat);
  }

  /**
   * What its frames look like (VIDIOC_G_FMT). What a decoder puts out is known when it has seen the beginning of its
   * input: each frame has its format, too.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  get format(): Format {
    return this.port.get();
  }

  /**
   * Changes the format (VIDIOC_S_FMT), and answers what it is now, as {@link OneWayDevice.setFormat}. The format of what
   * goes in comes first: many drivers make that of what comes out anew of it. A decoder takes the size from its input,
   * and keeps the pixel format that was asked for.
   *
   * @throws SystemError EINVAL: no such pixel format, the message says which there are; EBUSY: not while there are
   *   buffers for another
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, RangeError ERR_OUT_OF_RANGE
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  setFormat(format: FormatRequest): Format {
    const found = this.port.request(format, true);
    if (format.pixelFormat !== undefined) this.wanted = found.pixelFormat;
    return found;
  }

  /**
   * What {@link CodecSide.setFormat} would answer, and no change (VIDIOC_TRY_FMT).
   *
   * @throws what that does
   */
  tryFormat(format: FormatRequest): Format {
    return this.port.request(format, false);
  }

  /**
   * Where in a frame the picture is (VIDIOC_G_SELECTION): codecs work in blocks, so a frame may be larger. All of it where
   * the driver does not say.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  get picture(): PictureArea {
    const { width, height } = this.port.get();
    const found = native.v4l2Selection(this.#device(), this.#plainType, this.#target);
    if (typeof found !== 'number') return found;
    if ([errno.ENOTTY, errno.EINVAL, errno.ENODATA].includes(-found)) return { left: 0, top: 0, width, height };
    throw videoError(found, 'VIDIOC_G_SELECTION', this.#path);
  }

  get #output(): boolean {
    return this.port.type === v4l2.BUF_TYPE_VIDEO_OUTPUT || this.port.type === v4l2.BUF_TYPE_VIDEO_OUTPUT_MPLANE;
  }

  /** This call knows no planes. */
  get #plainType(): number {
    return this.#output ? v4l2.BUF_TYPE_VIDEO_OUTPUT : v4l2.BUF_TYPE_VIDEO_CAPTURE;
  }

  get #target(): number {
    return this.#output ? v4l2.SEL_TGT_CROP : v4l2.SEL_TGT_COMPOSE;
  }
}
