// SPDX-License-Identifier: MIT
import { mapAdvice } from './advice.js';
import { illegalConstructor, systemError } from './errors.js';
import type { Name } from './handle.js';
import { type Handle, native, numbers } from './native.js';

/** Bytes of a page of this machine: what the offset of a mapping is a multiple of. */
export const PAGE_SIZE: number = native.constants.PAGE_SIZE;

/** The whole pages that `length` bytes take. @internal */
export function wholePages(length: number): number {
  return Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
}

/** Makes a {@link Mapping}; constructors are not public. @internal */
export let createMapping: (
  handle: Handle,
  /** `base`: where what is mapped begins in the file; {@link Mapping.offset} counts from there */
  range: { offset: number; length: number; base?: number },
  path: Name,
  /** false: of a memfd */
  dma?: boolean,
) => Mapping;

const secret = Symbol('mapping');

/**
 * One mmap of a {@link DmaBuf}, of a {@link Region} or of the exporter, as an `ArrayBuffer`.
 *
 * It keeps the memory alive by itself: the descriptor it was made from may be closed.
 * A mapping nobody closes ends when its `ArrayBuffer` is collected.
 */
export class Mapping implements Disposable {
  /**
   * The memory itself, no copy. After {@link Mapping.close} it is detached: it and every
   * view of it have length 0.
   */
  readonly buffer: ArrayBuffer;
  /** bytes from the start of what was mapped */
  readonly offset: number;
  /** bytes */
  readonly length: number;
  readonly #handle: Handle;
  #closed = false;

  static {
    createMapping = (handle, { offset, length, base = 0 }, path, dma = true) => {
      const mapped = native.map(handle, base + offset, length);
      if (typeof mapped === 'number') throw systemError(mapped, 'mmap', `${path}`, mapAdvice(mapped, dma));
      return new Mapping(secret, mapped, numbers[0] as Handle, offset);
    };
  }

  private constructor(key: symbol, buffer: ArrayBuffer, handle: Handle, offset: number) {
    if (key !== secret) throw illegalConstructor('A Mapping is made by map()');
    this.#handle = handle;
    this.buffer = buffer;
    this.offset = offset;
    this.length = buffer.byteLength;
  }

  /** Whether {@link Mapping.close} was called. */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Detaches {@link Mapping.buffer} and gives the memory back. May be called twice.
   *
   * A read or write under way in the background finds memory of nobody's there; the range
   * of addresses is not used again before it is done. Where script has moved the memory
   * out by `buffer.transfer()`, it lives until the `ArrayBuffer` that has it is collected.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    native.unmap(this.#handle);
  }

  /** The same as {@link Mapping.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
