// SPDX-License-Identifier: MIT
/** What goes into a codec, and what comes out of it: each has a format of its own. @module */
import { constants as osConstants } from 'node:os';
import { type Handle, native } from '../native.js';
import { videoError } from './advice.js';
import { type Format, type FormatRequest, Port } from './formats.js';

const { v4l2 } = native;
const { errno } = osConstants;

/** A part of a frame, in pixels. */
export interface PictureArea {
  /** pixels from the left */
  readonly left: number;
  /** rows from the top */
  readonly top: number;
  /** pixels */
  readonly width: number;
  /** rows */
  readonly height: number;
}

/** One side of a {@link Codec}: {@link Codec.input} or {@link Codec.output}. */
export class CodecSide extends Port {
  readonly #device: () => Handle;
  readonly #path: string;
  /** the pixel format that was asked for, which what is decoded is to have whatever its size is @internal */
  wanted: string | undefined;

  /** @internal */
  constructor(device: () => Handle, type: number, path: string) {
    super(device, type, path);
    this.#device = device;
    this.#path = path;
  }

  /**
   * What its frames look like (VIDIOC_G_FMT). What a decoder puts out is known when it has seen the beginning of its
   * input: each frame has its format, too.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  override get format(): Format {
    return super.format;
  }

  /**
   * Changes the format (VIDIOC_S_FMT), and answers what it is now, as {@link Port.setFormat}. The format of what goes in
   * comes first: many drivers make that of what comes out anew of it. A decoder takes the size from its input, and keeps
   * the pixel format that was asked for.
   *
   * @throws what that does
   */
  override setFormat(format: FormatRequest): Format {
    const found = super.setFormat(format);
    if (format.pixelFormat !== undefined) this.wanted = found.pixelFormat;
    return found;
  }

  /**
   * Where in a frame the picture is (VIDIOC_G_SELECTION): codecs work in blocks, so a frame may be larger. All of it where
   * the driver does not say.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  get picture(): PictureArea {
    const { width, height } = this.format;
    const found = native.v4l2Selection(this.#device(), this.#plainType, this.#target);
    if (typeof found !== 'number') return found;
    if ([errno.ENOTTY, errno.EINVAL, errno.ENODATA].includes(-found)) return { left: 0, top: 0, width, height };
    throw videoError(found, 'VIDIOC_G_SELECTION', this.#path);
  }

  get #output(): boolean {
    return this.type === v4l2.BUF_TYPE_VIDEO_OUTPUT || this.type === v4l2.BUF_TYPE_VIDEO_OUTPUT_MPLANE;
  }

  /** This call knows no planes. */
  get #plainType(): number {
    return this.#output ? v4l2.BUF_TYPE_VIDEO_OUTPUT : v4l2.BUF_TYPE_VIDEO_CAPTURE;
  }

  get #target(): number {
    return this.#output ? v4l2.SEL_TGT_CROP : v4l2.SEL_TGT_COMPOSE;
  }
}
