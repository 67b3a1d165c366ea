// SPDX-License-Identifier: MIT
/** What pictures look like in memory. @module */
import { constants as osConstants } from 'node:os';
import { checkInteger, checkOptionNames, checkOptions } from '../arguments.js';
import { type Call, invalidType, outOfRange, systemError } from '../errors.js';
import { FormatField, type Handle, native, type V4l2Fraction } from '../native.js';
import { videoError } from './advice.js';
import { fourccCode, fourccName } from './fourcc.js';
import { Names, type Unnamed } from './names.js';

const { v4l2 } = native;
const { errno } = osConstants;

const MAX_U32 = 0xffffffff;

/** In which order the lines of a picture are (`enum v4l2_field`). */
export type FieldOrder =
  | 'any'
  | 'none'
  | 'top'
  | 'bottom'
  | 'interlaced'
  | 'seq-tb'
  | 'seq-bt'
  | 'alternate'
  | 'interlaced-tb'
  | 'interlaced-bt'
  | Unnamed;

/** `enum v4l2_colorspace` */
export type Colorspace =
  | 'default'
  | 'smpte170m'
  | 'smpte240m'
  | 'rec709'
  | '470-system-m'
  | '470-system-bg'
  | 'jpeg'
  | 'srgb'
  | 'oprgb'
  | 'bt2020'
  | 'raw'
  | 'dci-p3'
  | Unnamed;

/** `enum v4l2_ycbcr_encoding` */
export type YcbcrEncoding =
  | 'default'
  | '601'
  | '709'
  | 'xv601'
  | 'xv709'
  | 'bt2020'
  | 'bt2020-const-lum'
  | 'smpte240m'
  | Unnamed;

/** `enum v4l2_quantization` */
export type Quantization = 'default' | 'full' | 'limited' | Unnamed;

/** `enum v4l2_xfer_func` */
export type TransferFunction =
  | 'default'
  | '709'
  | 'srgb'
  | 'oprgb'
  | 'smpte240m'
  | 'none'
  | 'dci-p3'
  | 'smpte2084'
  | Unnamed;

const fields = new Names<FieldOrder>('field', {
  any: v4l2.FIELD_ANY,
  none: v4l2.FIELD_NONE,
  top: v4l2.FIELD_TOP,
  bottom: v4l2.FIELD_BOTTOM,
  interlaced: v4l2.FIELD_INTERLACED,
  'seq-tb': v4l2.FIELD_SEQ_TB,
  'seq-bt': v4l2.FIELD_SEQ_BT,
  alternate: v4l2.FIELD_ALTERNATE,
  'interlaced-tb': v4l2.FIELD_INTERLACED_TB,
  'interlaced-bt': v4l2.FIELD_INTERLACED_BT,
});

const colorspaces = new Names<Colorspace>('colorspace', {
  default: v4l2.COLORSPACE_DEFAULT,
  smpte170m: v4l2.COLORSPACE_SMPTE170M,
  smpte240m: v4l2.COLORSPACE_SMPTE240M,
  rec709: v4l2.COLORSPACE_REC709,
  '470-system-m': v4l2.COLORSPACE_470_SYSTEM_M,
  '470-system-bg': v4l2.COLORSPACE_470_SYSTEM_BG,
  jpeg: v4l2.COLORSPACE_JPEG,
  srgb: v4l2.COLORSPACE_SRGB,
  oprgb: v4l2.COLORSPACE_OPRGB,
  bt2020: v4l2.COLORSPACE_BT2020,
  raw: v4l2.COLORSPACE_RAW,
  'dci-p3': v4l2.COLORSPACE_DCI_P3,
});

const encodings = new Names<YcbcrEncoding>('ycbcrEncoding', {
  default: v4l2.YCBCR_ENC_DEFAULT,
  '601': v4l2.YCBCR_ENC_601,
  '709': v4l2.YCBCR_ENC_709,
  xv601: v4l2.YCBCR_ENC_XV601,
  xv709: v4l2.YCBCR_ENC_XV709,
  bt2020: v4l2.YCBCR_ENC_BT2020,
  'bt2020-const-lum': v4l2.YCBCR_ENC_BT2020_CONST_LUM,
  smpte240m: v4l2.YCBCR_ENC_SMPTE240M,
});

const quantizations = new Names<Quantization>('quantization', {
  default: v4l2.QUANTIZATION_DEFAULT,
  full: v4l2.QUANTIZATION_FULL_RANGE,
  limited: v4l2.QUANTIZATION_LIM_RANGE,
});

const transfers = new Names<TransferFunction>('transferFunction', {
  default: v4l2.XFER_FUNC_DEFAULT,
  '709': v4l2.XFER_FUNC_709,
  srgb: v4l2.XFER_FUNC_SRGB,
  oprgb: v4l2.XFER_FUNC_OPRGB,
  smpte240m: v4l2.XFER_FUNC_SMPTE240M,
  none: v4l2.XFER_FUNC_NONE,
  'dci-p3': v4l2.XFER_FUNC_DCI_P3,
  smpte2084: v4l2.XFER_FUNC_SMPTE2084,
});

/** The word for what a driver says of a buffer. @internal */
export const fieldName = (code: number): FieldOrder => fields.word(code);
/** @internal */
export const fieldCode = (name: FieldOrder, call: Call): number => fields.code(name, call);

/** One plane of a format: a buffer of its own where there are several. */
export interface PlaneFormat {
  /** bytes from the start of a row to that of the next; 0 where there are no rows, as in compressed pictures */
  readonly stride: number;
  /** bytes of a buffer that has room for the plane */
  readonly size: number;
}

/** What the pictures of a device look like (`struct v4l2_pix_format`, and `…_mplane`). */
export interface Format {
  /** pixels */
  readonly width: number;
  /** pixels; of a frame, whatever its fields */
  readonly height: number;
  /** a fourcc, such as `'YUYV'` */
  readonly pixelFormat: string;
  /** in which order the lines are */
  readonly field: FieldOrder;
  /** what the numbers of colours mean */
  readonly colorspace: Colorspace;
  /** how they became Y, Cb and Cr */
  readonly ycbcrEncoding: YcbcrEncoding;
  /** which of the numbers there may be are used */
  readonly quantization: Quantization;
  /** how they follow light */
  readonly transferFunction: TransferFunction;
  /** one for each buffer that a picture takes: one of a single-planar device */
  readonly planes: readonly PlaneFormat[];
}

/**
 * What is wanted of a format: the rest stays as it is, or becomes what goes with it. What of its colours a capture can be
 * asked for is {@link PixelFormatInfo.converts}.
 */
export interface FormatRequest extends Partial<Omit<Format, 'planes'>> {
  /** what a plane is to have at least: default is what the driver says */
  planes?: readonly Partial<PlaneFormat>[];
}

/** A pixel format of a device. */
export interface PixelFormatInfo {
  /** its fourcc */
  readonly pixelFormat: string;
  /** as the driver calls it */
  readonly description: string;
  /** whether it has no rows of pixels, such as MJPG */
  readonly compressed: boolean;
  /** whether the driver's library makes it of another */
  readonly emulated: boolean;
  /**
   * what of its colours a capture can be asked for, and converts (V4L2_FMT_FLAG_CSC_…, since Linux 5.8); of the rest it
   * says what it is. None of an output, which is told what its frames have.
   */
  readonly converts: readonly ('colorspace' | 'transferFunction' | 'ycbcrEncoding' | 'quantization')[];
}

const conversions = [
  ['colorspace', v4l2.FMT_FLAG_CSC_COLORSPACE],
  ['transferFunction', v4l2.FMT_FLAG_CSC_XFER_FUNC],
  ['ycbcrEncoding', v4l2.FMT_FLAG_CSC_YCBCR_ENC],
  ['quantization', v4l2.FMT_FLAG_CSC_QUANTIZATION],
] as const;

/** Sizes that a device has for a pixel format, in pixels: one, or all from the least to the largest by a step. */
export interface FrameSize {
  /** least, in pixels */
  readonly minWidth: number;
  /** largest */
  readonly maxWidth: number;
  /** 0 of one size */
  readonly stepWidth: number;
  /** least, in pixels */
  readonly minHeight: number;
  /** largest */
  readonly maxHeight: number;
  /** 0 of one size */
  readonly stepHeight: number;
  /** whether it is one size */
  readonly discrete: boolean;
}

/** A time in seconds, as drivers say it. */
export type Fraction = Readonly<V4l2Fraction>;

/** Times from a frame to the next that a device has for a size: one, or all from the least to the largest by a step. */
export interface FrameInterval {
  /** shortest */
  readonly min: Fraction;
  /** longest */
  readonly max: Fraction;
  /** 0 of one */
  readonly step: Fraction;
  /** whether it is one */
  readonly discrete: boolean;
}

/** Filled anew for each call. */
const numbers = new Float64Array(FormatField.all);

function read(): Format {
  const number = (index: number) => numbers[index] as number;
  const planes = Array.from({ length: number(FormatField.planeCount) }, (_, plane) => {
    const at = FormatField.planes + 2 * plane;
    return Object.freeze({ stride: number(at), size: number(at + 1) });
  });
  return Object.freeze({
    width: number(FormatField.width),
    height: number(FormatField.height),
    pixelFormat: fourccName(number(FormatField.pixelFormat)),
    field: fields.word(number(FormatField.field)),
    colorspace: colorspaces.word(number(FormatField.colorspace)),
    ycbcrEncoding: encodings.word(number(FormatField.ycbcr)),
    quantization: quantizations.word(number(FormatField.quantization)),
    transferFunction: transfers.word(number(FormatField.transfer)),
    planes: Object.freeze(planes),
  });
}

const requestNames = [
  'width',
  'height',
  'pixelFormat',
  'field',
  'colorspace',
  'ycbcrEncoding',
  'quantization',
  'transferFunction',
  'planes',
] satisfies (keyof FormatRequest)[];

const colours = ['colorspace', 'ycbcrEncoding', 'quantization', 'transferFunction'] as const;

const isCapture = (type: number): boolean =>
  type === v4l2.BUF_TYPE_VIDEO_CAPTURE || type === v4l2.BUF_TYPE_VIDEO_CAPTURE_MPLANE;

/** What a request changes, by the places of its numbers. */
function changesOf(request: unknown, { type, multiplanar }: Port, call: Call): Map<number, number> {
  const maxPlanes = multiplanar ? v4l2.MAX_PLANES : 1;
  checkOptions(request, 'format', call);
  checkOptionNames(request, requestNames, call);
  const { width, height, pixelFormat, planes, ...words } = request as FormatRequest;
  const changes = new Map<number, number>();
  for (const [name, value, at] of [
    ['width', width, FormatField.width],
    ['height', height, FormatField.height],
  ] as const) {
    if (value === undefined) continue;
    checkInteger(value, name, 1, MAX_U32, call);
    changes.set(at, value);
  }
  if (pixelFormat !== undefined) changes.set(FormatField.pixelFormat, fourccCode(pixelFormat));
  for (const [value, names, at] of [
    [words.field, fields, FormatField.field],
    [words.colorspace, colorspaces, FormatField.colorspace],
    [words.ycbcrEncoding, encodings, FormatField.ycbcr],
    [words.quantization, quantizations, FormatField.quantization],
    [words.transferFunction, transfers, FormatField.transfer],
  ] as const) {
    if (value === undefined) continue;
    const code = names.code(value, call);
    // of v4l2_pix_format_mplane, which has bytes for all but the first two
    const wide = at === FormatField.field || at === FormatField.colorspace;
    if (!wide && code > 0xff) throw outOfRange('format', "a number up to '#255'", value, call);
    changes.set(at, code);
  }
  // Else a device that frames come from takes no notice of them, since it is its part to say.
  if (isCapture(type) && colours.some((name) => words[name] !== undefined)) {
    changes.set(FormatField.flags, v4l2.PIX_FMT_FLAG_SET_CSC);
  }
  // The driver says what goes with the rest, unless it is told.
  for (let plane = 0; plane < v4l2.MAX_PLANES; plane++) {
    changes.set(FormatField.planes + 2 * plane, 0);
    changes.set(FormatField.planes + 2 * plane + 1, 0);
  }
  if (planes === undefined) return changes;
  if (!Array.isArray(planes)) throw invalidType('planes', 'an array', planes, call);
  if (planes.length > maxPlanes) throw outOfRange('planes.length', `at most ${maxPlanes}`, planes.length, call);
  changes.set(FormatField.planeCount, planes.length);
  for (const [plane, wanted] of planes.entries()) {
    checkOptions(wanted, `planes[${plane}]`, call);
    checkOptionNames(wanted, ['stride', 'size'] satisfies (keyof PlaneFormat)[], call);
    const { stride = 0, size = 0 } = wanted as Partial<PlaneFormat>;
    checkInteger(stride, `planes[${plane}].stride`, 0, MAX_U32, call);
    checkInteger(size, `planes[${plane}].size`, 0, MAX_U32, call);
    changes.set(FormatField.planes + 2 * plane, stride);
    changes.set(FormatField.planes + 2 * plane + 1, size);
  }
  return changes;
}

/** No list of a driver's is longer; one that has no end is a driver's mistake. @internal */
export const MAX_ENTRIES = 4096;

/** The entries of a list that ends with EINVAL; of one that there is not, none. */
function* entries<T extends object>(entry: (index: number) => T | number): Generator<T> {
  for (let index = 0; index < MAX_ENTRIES; index++) {
    const found = entry(index);
    if (typeof found === 'number') {
      if (found === -errno.EINVAL || found === -errno.ENOTTY) return;
      throw found;
    }
    yield found;
  }
}

/** One direction of a device, and what its pictures look like there. */
export class Port {
  readonly #device: () => Handle;
  readonly #path: string;
  /** V4L2_BUF_TYPE_… @internal */
  readonly type: number;

  /** @internal */
  constructor(device: () => Handle, type: number, path: string) {
    this.#device = device;
    this.type = type;
    this.#path = path;
  }

  /** Whether its frames may have several buffers, one for each plane. */
  get multiplanar(): boolean {
    return this.type === v4l2.BUF_TYPE_VIDEO_CAPTURE_MPLANE || this.type === v4l2.BUF_TYPE_VIDEO_OUTPUT_MPLANE;
  }

  #list<T extends object, U>(request: `VIDIOC_${string}`, entry: (index: number) => T | number, make: (found: T) => U) {
    try {
      return Array.from(entries(entry), make);
    } catch (error) {
      throw typeof error === 'number' ? videoError(error, request, this.#path) : error;
    }
  }

  /**
   * The pixel formats it has (VIDIOC_ENUM_FMT).
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  formats(): PixelFormatInfo[] {
    const device = this.#device();
    return this.#list(
      'VIDIOC_ENUM_FMT',
      (index) => native.v4l2EnumFormat(device, this.type, index),
      ({ pixelFormat, description, flags }) => ({
        pixelFormat: fourccName(pixelFormat),
        description,
        compressed: (flags & v4l2.FMT_FLAG_COMPRESSED) !== 0,
        emulated: (flags & v4l2.FMT_FLAG_EMULATED) !== 0,
        converts: conversions.flatMap(([name, flag]) => (isCapture(this.type) && (flags & flag) !== 0 ? [name] : [])),
      }),
    );
  }

  /**
   * The sizes it has for a pixel format (VIDIOC_ENUM_FRAMESIZES); none where the driver does not say, or there is no
   * such format.
   *
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  sizes(pixelFormat: string): FrameSize[] {
    const device = this.#device();
    const code = fourccCode(pixelFormat);
    return this.#list(
      'VIDIOC_ENUM_FRAMESIZES',
      (index) => native.v4l2EnumSize(device, code, index),
      ({ type, ...size }) => ({ ...size, discrete: type === v4l2.FRMSIZE_TYPE_DISCRETE }),
    );
  }

  /** @internal */
  intervals(pixelFormat: string, width: number, height: number): FrameInterval[] {
    const device = this.#device();
    const code = fourccCode(pixelFormat);
    const call = { syscall: 'ioctl', path: this.#path };
    checkInteger(width, 'width', 1, MAX_U32, call);
    checkInteger(height, 'height', 1, MAX_U32, call);
    return this.#list(
      'VIDIOC_ENUM_FRAMEINTERVALS',
      (index) => native.v4l2EnumInterval(device, code, width, height, index),
      ({ type, ...interval }) => ({ ...interval, discrete: type === v4l2.FRMIVAL_TYPE_DISCRETE }),
    );
  }

  #call(how: 0 | 1 | 2): number {
    numbers[FormatField.type] = this.type;
    return native.v4l2Format(this.#device(), how, numbers.buffer);
  }

  /**
   * What its frames look like (VIDIOC_G_FMT).
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  get format(): Format {
    this.#get();
    return read();
  }

  #get(): void {
    const error = this.#call(0);
    if (error < 0) throw videoError(error, 'VIDIOC_G_FMT', this.#path);
  }

  /**
   * Changes the format (VIDIOC_S_FMT), and answers what it is now: a driver takes the nearest size it has, and what it
   * has of the rest. A pixel format it does not have is an error.
   *
   * @throws SystemError EINVAL: no such pixel format, the message says which there are; EBUSY: not while there are
   *   buffers for another
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, RangeError ERR_OUT_OF_RANGE
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  setFormat(format: FormatRequest): Format {
    return this.#request(format, true);
  }

  /**
   * What {@link Port.setFormat} would answer, and no change (VIDIOC_TRY_FMT).
   *
   * @throws what that does
   */
  tryFormat(format: FormatRequest): Format {
    return this.#request(format, false);
  }

  #request(request: FormatRequest, set: boolean): Format {
    const call = { syscall: 'ioctl', path: this.#path };
    const changes = changesOf(request, this, call);
    const apply = () => {
      // The format there is now may have fewer planes than the one that is wanted.
      const planes = numbers[FormatField.planeCount] as number;
      for (const [at, value] of changes) numbers[at] = value;
      numbers[FormatField.planeCount] = Math.max(planes, numbers[FormatField.planeCount] as number);
    };
    const wanted = changes.get(FormatField.pixelFormat);
    this.#get();
    apply();
    const tried = this.#call(1);
    // A driver may have no such call; then it is asked for good, where that is meant.
    if (tried < 0 && !(set && tried === -errno.ENOTTY)) throw videoError(tried, 'VIDIOC_TRY_FMT', this.#path);
    if (tried === 0 && wanted !== undefined && numbers[FormatField.pixelFormat] !== wanted) {
      throw this.#noSuchFormat(wanted);
    }
    if (!set) return read();
    this.#get();
    apply();
    const error = this.#call(2);
    if (error < 0) throw videoError(error, 'VIDIOC_S_FMT', this.#path);
    if (wanted !== undefined && numbers[FormatField.pixelFormat] !== wanted) throw this.#noSuchFormat(wanted);
    return read();
  }

  #noSuchFormat(wanted: number): Error {
    const there = this.formats().map(({ pixelFormat }) => pixelFormat);
    const advice = `It has no pixel format '${fourccName(wanted)}' here: there are ${there.join(', ')}.`;
    return systemError(-errno.EINVAL, 'ioctl', this.#path, advice);
  }

  /** Seconds from a frame to the next. @internal */
  interval(wanted?: Fraction): Fraction {
    if (wanted !== undefined) {
      const call = { syscall: 'ioctl', path: this.#path };
      checkOptions(wanted, 'interval', call);
      checkInteger(wanted.numerator, 'interval.numerator', 1, MAX_U32, call);
      checkInteger(wanted.denominator, 'interval.denominator', 1, MAX_U32, call);
    }
    const { numerator, denominator } = wanted ?? { numerator: 0, denominator: 0 };
    const found = native.v4l2Interval(this.#device(), this.type, numerator, denominator);
    // Some answer the call, and do not know: 0/0.
    if (typeof found !== 'number' && found.denominator > 0) return found;
    const error = typeof found === 'number' ? found : -errno.ENOTTY;
    throw videoError(error, wanted === undefined ? 'VIDIOC_G_PARM' : 'VIDIOC_S_PARM', this.#path);
  }
}
