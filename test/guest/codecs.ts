// SPDX-License-Identifier: MIT
/** Pictures for drivers that make frames of frames, and what they make of them. */
import assert from 'node:assert/strict';
import { Codec, type CodecStream, type Frame } from 'dmabuf/v4l2';

/** A picture in colours, as RGB3 has it: another one for each number. */
export function colourPicture(width: number, height: number, number: number): Uint8Array {
  const bytes = new Uint8Array(width * height * 3);
  for (let at = 0; at < bytes.length; at++) bytes[at] = (at * 7 + number * 31) % 251;
  return bytes;
}

/** The same with red and blue exchanged: BGR3. */
export function exchanged(bytes: Uint8Array): Uint8Array {
  const other = Uint8Array.from(bytes);
  for (let at = 0; at + 2 < bytes.length; at += 3) {
    other[at] = bytes[at + 2] as number;
    other[at + 2] = bytes[at] as number;
  }
  return other;
}

/** A grey picture, steps from left to right: what a lossy codec changes little. */
export function greyPicture(width: number, height: number, number: number): Uint8Array {
  const row = Uint8Array.from({ length: width }, (_, x) => 32 + (((x >> 6) * 16 + number * 24) % 192));
  const bytes = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) bytes.set(row, y * width);
  return bytes;
}

/** The mean of the differences of two pictures, in steps of 255. */
export function meanDifference(found: Uint8Array, expected: Uint8Array): number {
  assert.equal(found.length, expected.length);
  let sum = 0;
  for (let at = 0; at < found.length; at++) sum += Math.abs((found[at] as number) - (expected[at] as number));
  return sum / found.length;
}

/** A codec of vicodec's for grey pictures of a size. */
export function encoderOf(width: number, height: number, pixelFormat = 'GREY'): Codec {
  const encoder = Codec.open({ driver: 'vicodec', from: pixelFormat, to: 'FWHT' });
  const format = encoder.input.setFormat({ width, height, pixelFormat });
  assert.deepEqual([format.width, format.height], [width, height]);
  return encoder;
}

/** All that comes, each looked at and given back. */
export async function all<T>(stream: CodecStream, look: (frame: Frame) => T): Promise<T[]> {
  const seen: T[] = [];
  for await (using frame of stream) seen.push(look(frame));
  return seen;
}

/** What is in use of the only plane of a frame. */
export const bytesOf = (frame: Frame) => frame.read((bytes) => Uint8Array.from(bytes));

/** The pieces of a compressed stream: each a frame's. */
export async function encoded(width: number, height: number, pictures: readonly Uint8Array[]): Promise<Uint8Array[]> {
  using encoder = encoderOf(width, height);
  return await all(encoder.process(pictures), bytesOf);
}
