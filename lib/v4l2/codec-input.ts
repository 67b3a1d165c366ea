// SPDX-License-Identifier: MIT
/** What a program may hand to a codec, and how it gets into a buffer of the driver's queue. @module */
import { checkOptionNames } from '../arguments.js';
import { countCopy } from '../copies.js';
import { DmaBuf } from '../dmabuf.js';
import { type Call, invalidType, outOfRange } from '../errors.js';
import type { Format } from './formats.js';
import { Frame } from './frame.js';
import { checkHandedOn } from './handed-on.js';
import type { BufferInfo, BufferQueue, PlaneUse, Slot } from './queue.js';

/**
 * Buffers for a {@link Codec} to read, where they are. What is in use of a piece of a compressed stream is their `length`,
 * unless `planes` says it.
 */
export interface CodecBuffers extends BufferInfo {
  /** one, or one for each plane; they stay the program's own */
  buffers: DmaBuf | readonly DmaBuf[];
  /** called once, when the driver has no more use for them */
  done?: () => void;
}

/** Bytes for a {@link Codec} to read: they are copied into a buffer of its driver. */
export interface CodecBytes extends Pick<BufferInfo, 'timestamp' | 'field'> {
  /** as they are in memory, or so for each plane */
  bytes: Uint8Array | readonly Uint8Array[];
}

/**
 * One picture, or a piece of a compressed stream. A {@link Frame} is read in the buffers it is in, and closed when the
 * driver has no more use for it; so is a `DmaBuf`, which stays the program's own. Bytes are copied, which
 * {@link pipelineReport} counts.
 */
export type CodecInput = Frame | DmaBuf | Uint8Array | CodecBuffers | CodecBytes;

/** What was handed over. @internal */
export interface Given {
  /** undefined: there are bytes */
  readonly buffers: readonly DmaBuf[] | undefined;
  readonly bytes: readonly Uint8Array[];
  readonly info: BufferInfo;
  readonly frame: Frame | undefined;
  /** whether the program is told when it is of no more use */
  readonly told: boolean;
  /** It is of no more use. */
  release(): void;
}

const EXPECTED = 'of frames, of DmaBufs, of Uint8Arrays, or of objects with buffers or bytes';

function listOf<T>(value: T | readonly T[]): readonly T[] {
  // The program may change its own meanwhile.
  return Array.isArray(value) ? [...(value as readonly T[])] : [value as T];
}

/** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE @internal */
export function readInput(value: unknown, call: Call): Given {
  const none = { buffers: undefined, bytes: [], info: {}, frame: undefined, told: false, release: () => {} };
  if (value instanceof Frame) {
    const { timestamp, field } = value;
    const planes = value.planes.map(({ bytesUsed, dataOffset }) => ({ bytesUsed, dataOffset }));
    const release = () => value.close();
    return { ...none, buffers: value.buffers, info: { planes, timestamp, field }, frame: value, release };
  }
  if (value instanceof DmaBuf) return { ...none, buffers: [value] };
  if (value instanceof Uint8Array) return { ...none, bytes: [value] };
  if (typeof value !== 'object' || value === null) throw invalidType('frames', EXPECTED, value, call);
  if ('buffers' in value) {
    checkOptionNames(value, ['buffers', 'done', 'planes', 'timestamp', 'field'] satisfies (keyof CodecBuffers)[], call);
    const { buffers, done, ...info } = value as CodecBuffers;
    if (done !== undefined && typeof done !== 'function') throw invalidType('done', 'of type function', done, call);
    return { ...none, buffers: listOf(buffers), info, told: done !== undefined, release: once(done ?? (() => {})) };
  }
  if (!('bytes' in value)) throw invalidType('frames', EXPECTED, value, call);
  checkOptionNames(value, ['bytes', 'timestamp', 'field'] satisfies (keyof CodecBytes)[], call);
  const { bytes, ...info } = value as CodecBytes;
  const list = listOf(bytes);
  for (const one of list) if (!(one instanceof Uint8Array)) throw invalidType('bytes', 'a Uint8Array', one, call);
  return { ...none, bytes: list, info };
}

function once(fn: () => void): () => void {
  let left: (() => void) | undefined = fn;
  return () => {
    const call = left;
    left = undefined;
    call?.();
  };
}

/** A piece of a stream may have any length: what is in use of each buffer, unless it was said. */
function usesOf(buffers: readonly DmaBuf[], said: readonly PlaneUse[] = []): PlaneUse[] {
  return buffers.map(({ length }, plane) => ({ ...said[plane], bytesUsed: said[plane]?.bytesUsed ?? length }));
}

/**
 * Puts what was handed over into a slot that is idle: its buffers themselves, or a copy of its bytes.
 *
 * @returns what the driver is told of it
 * @throws RangeError ERR_OUT_OF_RANGE: it is too large, or too small, or what is said of it is; SystemError EINVAL: a
 *   frame of another format, or one that begins further inside; TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
 * @internal
 */
export function fillSlot(queue: BufferQueue, slot: Slot, given: Given, compressed: boolean): BufferInfo {
  const format = queue.format as Format;
  const call = { syscall: 'ioctl', path: queue.device.path };
  if (given.buffers !== undefined) {
    if (given.frame !== undefined) checkHandedOn(given.frame, { queue, input: true, compressed });
    queue.checkBuffers(given.buffers, format, 'buffers', compressed || given.frame !== undefined);
    slot.buffers = given.buffers;
    // A driver has said the rest of them.
    if (given.frame !== undefined) return given.info;
    queue.checkInfo(slot, given.info);
    return compressed ? { ...given.info, planes: usesOf(given.buffers, given.info.planes) } : given.info;
  }
  queue.checkInfo(slot, given.info);
  const { bytes } = given;
  if (bytes.length !== format.planes.length) {
    throw outOfRange('bytes.length', `${format.planes.length}, one array for each plane`, bytes.length, call);
  }
  for (const [plane, { size }] of format.planes.entries()) {
    const { length } = bytes[plane] as Uint8Array;
    if (length > 0 && length <= size) continue;
    const name = bytes.length === 1 ? 'bytes' : `bytes[${plane}]`;
    throw outOfRange(name, `1 to ${size} bytes: a buffer of ${queue.device.path} has no room for more`, length, call);
  }
  for (const [plane, source] of bytes.entries()) {
    (slot.buffers[plane] as DmaBuf).write((target) => target.set(source));
    countCopy(source.length);
  }
  return { ...given.info, planes: bytes.map(({ length }) => ({ bytesUsed: length })) };
}
