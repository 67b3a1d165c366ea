// SPDX-License-Identifier: MIT
/** Where the planes of colours lie in a buffer that has several. @module */
import type { Plane } from '../planes.js';
import type { Format } from './formats.js';

/** A plane of colours by the first one: its stride times, and its rows divided by. */
type Part = readonly [stride: number, rows: number];

const whole: Part = [1, 1];
const parts: Readonly<Record<string, readonly Part[]>> = {
  NV12: [whole, [1, 2]],
  NV21: [whole, [1, 2]],
  NV16: [whole, whole],
  NV61: [whole, whole],
  NV24: [whole, [2, 1]],
  NV42: [whole, [2, 1]],
  YU12: [whole, [0.5, 2], [0.5, 2]],
  YV12: [whole, [0.5, 2], [0.5, 2]],
  '422P': [whole, [0.5, 1], [0.5, 1]],
};

/**
 * The planes of colours in one buffer of a format; none where it has no rows, or does not hold as many as it should.
 *
 * @param begin - bytes in front of the picture, which a driver tells with its first frame
 * @internal
 */
export function layoutOf({ pixelFormat, height, planes }: Format, index: number, begin = 0): readonly Plane[] {
  const plane = planes[index];
  if (plane === undefined || plane.stride === 0) return [];
  const { stride, size } = plane;
  const list = planes.length === 1 ? (parts[pixelFormat] ?? [whole]) : undefined;
  // Of several buffers each has one plane, whose rows are as many as fit.
  if (list === undefined || list.length === 1) {
    return begin < size ? [{ offset: begin, stride, length: size - begin }] : [];
  }
  const found: Plane[] = [];
  let offset = begin;
  for (const [times, by] of list) {
    const one = { offset, stride: stride * times, length: stride * times * (height / by) };
    if (!Number.isInteger(one.length) || one.length === 0) return [];
    found.push(one);
    offset += one.length;
  }
  return offset <= size ? found : [];
}
