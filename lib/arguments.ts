// SPDX-License-Identifier: MIT
/** Checks of what a caller passed. @module */
import { constants as bufferConstants } from 'node:buffer';
import { constants as osConstants, totalmem } from 'node:os';
import { type Call, type CallOrSaid, invalidType, invalidValue, outOfRange } from './errors.js';
import { native } from './native.js';

/** Bytes; asking for them reads /proc/meminfo, which is most of what a small allocation would take. */
const memory = totalmem();

/** An integer in [min, max]. */
export function checkInteger(
  value: unknown,
  name: string,
  min: number,
  max: number,
  call?: CallOrSaid,
): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value, call);
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw outOfRange(name, `an integer from ${min} to ${max}`, value, call);
  }
}

/** Bytes of new memory: at least one, no more than this machine has. */
export function checkLength(value: unknown, name: string, call: Call): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value, call);
  if (!Number.isSafeInteger(value) || value < 1 || value > memory) {
    const range = `a whole number of bytes from 1 to ${memory}, the memory of this machine`;
    const { EINVAL, ENOMEM } = osConstants.errno;
    throw outOfRange(name, range, value, { ...call, errno: value > memory ? -ENOMEM : -EINVAL });
  }
}

/** A name the kernel takes whole. */
export function checkName(value: unknown, name: string, call: Call): asserts value is string | undefined {
  if (value === undefined) return;
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value, call);
  if (value.includes('\0')) throw invalidValue(name, 'must not contain NUL', call);
  const bytes = Buffer.byteLength(value);
  const most = native.constants.DMA_BUF_NAME_LEN - 1;
  if (bytes > most) throw outOfRange(name, `at most ${most} bytes of UTF-8 long`, `${bytes} bytes`, call);
}

/** An options bag, where one was given. */
export function checkOptions(value: unknown, name: string, call: CallOrSaid): asserts value is object {
  if (typeof value !== 'object' || value === null) throw invalidType(name, 'of type object', value, call);
}

/** An options bag without a name that means nothing. */
export function checkOptionNames(options: object, known: readonly string[], call: CallOrSaid): void {
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) throw invalidValue('options', `has no '${unknown}': there are ${known.join(', ')}`, call);
}

/** A flag, where one was given. */
export function checkFlag(value: unknown, name: string, call: CallOrSaid): asserts value is boolean | undefined {
  if (value !== undefined && typeof value !== 'boolean') throw invalidType(name, 'of type boolean', value, call);
}

/** A number that may be a descriptor's. */
export function checkFd(value: unknown, name: string, syscall: string): asserts value is number {
  checkInteger(value, name, 0, 0x7fffffff, { syscall });
}

/** A path open(2) takes. */
export function checkPath(value: unknown, name: string, syscall: string): asserts value is string {
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value, { syscall });
  if (value === '' || value.includes('\0')) {
    throw invalidValue(name, value === '' ? 'must not be empty' : 'must be a path without NUL', {
      syscall,
      path: value,
    });
  }
}

/** Part of something of `size` bytes. */
export interface Range {
  /** bytes from the start; default 0 */
  offset?: number;
  /** bytes; default: from `offset` to the end of what was asked for, and from beyond that to the end of its last page */
  length?: number;
}

/** Whether it was written as a literal, be it in another realm of V8 or without a prototype. */
function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** What was written for a range has no misspelt name; planes, mappings and regions are ranges with more. */
function checkRangeNames(range: object, call: CallOrSaid): void {
  const names = Object.keys(range);
  if (names.length === 0 || names.includes('stride') || !isPlain(range)) return;
  const unknown = names.find((name) => name !== 'offset' && name !== 'length');
  if (unknown !== undefined) throw invalidValue('range', `has no '${unknown}': there are offset and length`, call);
}

/**
 * A range inside `size` bytes that fits into an ArrayBuffer.
 *
 * @param usual - where a range ends that has no length
 * @param unit - what the offset is a multiple of
 */
export function checkRange(
  range: unknown,
  size: number,
  usual: number,
  unit: number,
  call: CallOrSaid,
): Required<Range> {
  checkOptions(range, 'range', call);
  checkRangeNames(range, call);
  const { offset = 0, length } = range as Range;
  checkInteger(offset, 'offset', 0, size - 1, call);
  if (offset % unit !== 0) throw outOfRange('offset', `a multiple of the page size, ${unit}`, offset, call);
  const end = offset < usual ? usual : size;
  const bytes = length === undefined ? end - offset : length;
  checkInteger(bytes, 'length', 1, Math.min(size - offset, bufferConstants.MAX_LENGTH), call);
  return { offset, length: bytes };
}
