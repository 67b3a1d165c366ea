// SPDX-License-Identifier: MIT
/** Where the planes of a picture lie in a buffer. @module */
import { constants } from 'node:os';
import { checkInteger, checkOptionNames, checkOptions } from './arguments.js';
import { type Call, DmaBufError, invalidType, outOfRange } from './errors.js';

/** One plane of a picture, as V4L2 and DRM describe it. */
export interface Plane {
  /** bytes from the start of the buffer to the first row */
  readonly offset: number;
  /** bytes from the start of a row to that of the next: what the pixels take, and padding */
  readonly stride: number;
  /** bytes of all rows; the last one need not have padding */
  readonly length: number;
}

/** A plane as it is given: default are offset 0, and a length that reaches to the end of the buffer's `length`. */
export type PlaneOptions = Pick<Plane, 'stride'> & Partial<Plane>;

const names = ['offset', 'stride', 'length'] satisfies (keyof Plane)[];

/**
 * Planes that lie inside a buffer.
 *
 * @param size - bytes of the buffer, whole pages
 * @param usual - where a plane ends that has no length
 * @internal
 */
export function checkPlanes(planes: unknown, size: number, usual: number, call: Call): readonly Plane[] {
  if (planes === undefined) return [];
  if (!Array.isArray(planes)) throw invalidType('planes', 'an array of planes', planes, call);
  const checked = Array.from(planes as unknown[], (plane, index) => {
    const name = `planes[${index}]`;
    checkOptions(plane, name, call);
    checkOptionNames(plane, names, call);
    const { offset = 0, stride, length } = plane as PlaneOptions;
    checkInteger(offset, `${name}.offset`, 0, size - 1, call);
    const bytes = length === undefined ? (offset < usual ? usual : size) - offset : length;
    checkInteger(bytes, `${name}.length`, 1, size - offset, call);
    checkInteger(stride, `${name}.stride`, 1, bytes, call);
    return Object.freeze({ offset, stride, length: bytes });
  });
  return Object.freeze(checked);
}

/** What has planes has been told of them. @internal */
export function somePlanes(planes: readonly Plane[], what: string): readonly [Plane, ...Plane[]] {
  const [first, ...others] = planes;
  if (first !== undefined) return [first, ...others];
  throw new DmaBufError(
    'ERR_DMABUF_UNSUPPORTED',
    `${what} has no planes: name them where it is made, by alloc(length, { planes }) or fromFd(fd, { planes })`,
    { errno: -constants.errno.EINVAL },
  );
}

/**
 * The rows of a plane, one after the other, as views of the bytes it is in: no copy.
 *
 * @param bytes - of the whole buffer, as {@link DmaBuf.read} and {@link DmaBuf.write} show them
 * @param width - bytes of a row that are pixels, and shown; default: the stride
 * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE: the plane is not inside of them, or its rows
 *   are not so wide
 */
export function rows<B extends ArrayBufferLike>(
  bytes: Uint8Array<B>,
  plane: PlaneOptions,
  width?: number,
): IterableIterator<Uint8Array<B>> {
  if (!(bytes instanceof Uint8Array)) throw invalidType('bytes', 'an instance of Uint8Array', bytes);
  if (bytes.length === 0) throw outOfRange('bytes.length', 'at least 1: the mapping may be closed', 0);
  const call = { syscall: 'mmap' };
  const [checked] = checkPlanes([plane], bytes.length, bytes.length, call) as [Plane];
  const shown = width ?? checked.stride;
  checkInteger(shown, 'width', 1, checked.stride, call);
  return eachRow(bytes, checked, shown);
}

function* eachRow<B extends ArrayBufferLike>(
  bytes: Uint8Array<B>,
  { offset, stride, length }: Plane,
  width: number,
): Generator<Uint8Array<B>, void, void> {
  for (let row = 0; row + width <= length; row += stride) yield bytes.subarray(offset + row, offset + row + width);
}
