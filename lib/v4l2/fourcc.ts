// SPDX-License-Identifier: MIT
/** Pixel formats by their four characters (`v4l2_fourcc`). @module */
import { checkInteger } from '../arguments.js';
import { invalidType, invalidValue } from '../errors.js';

/** The bit of formats whose words are big-endian (`v4l2_fourcc_be`). */
const BIG_ENDIAN = 0x80000000;
const SUFFIX = '-BE';

/**
 * The number of a pixel format, such as `'YUYV'`; one of fewer characters is filled up with spaces, and `-BE` at the
 * end is what the kernel prints where words are big-endian.
 *
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE: no such name
 */
export function fourccCode(name: string): number {
  if (typeof name !== 'string') throw invalidType('pixelFormat', 'of type string', name);
  const big = name.endsWith(SUFFIX);
  const characters = big ? name.slice(0, -SUFFIX.length) : name;
  if (!/^[ -~]{1,4}$/.test(characters)) {
    throw invalidValue('pixelFormat', `must be a fourcc such as 'YUYV' or 'RGB3'. Received '${name}'`);
  }
  const padded = characters.padEnd(4);
  const code = [0, 1, 2, 3].reduce((sum, at) => sum + padded.charCodeAt(at) * 2 ** (8 * at), 0);
  return big ? code + BIG_ENDIAN : code;
}

/**
 * The name of a pixel format, without the spaces at its end.
 *
 * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE
 */
export function fourccName(code: number): string {
  checkInteger(code, 'code', 0, 0xffffffff);
  const characters = [0, 8, 16, 24].map((shift) => (code >>> shift) & (shift === 24 ? 0x7f : 0xff));
  return String.fromCharCode(...characters).trimEnd() + (code >= BIG_ENDIAN ? SUFFIX : '');
}
