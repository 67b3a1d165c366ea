// SPDX-License-Identifier: MIT
/**
 * What messages look like on the wire of an {@link FdSocket}.
 *
 *     bytes 0 to 3   length of the JSON text in bytes, little-endian
 *     bytes 4 to 7   number of descriptors, little-endian
 *     then           the JSON text, UTF-8
 *
 * The descriptors travel by SCM_RIGHTS with the first byte of their message, so that they
 * have arrived when its last byte has, in the order of the messages.
 *
 * @module
 */
import { invalidType, outOfRange } from './errors.js';

/** Bytes before the text. */
export const HEADER_BYTES = 8;

/** Bytes from which on a piece is worth an object of its own. */
const PIECE_BYTES = 65536;

/** A header that was read. */
export interface Header {
  length: number;
  fds: number;
}

/**
 * A message as it goes out, but for the number of its descriptors, see {@link announce}.
 *
 * @throws TypeError where JSON cannot hold the value; RangeError where it is too long
 */
export function encode(value: unknown, maxBytes: number): Buffer {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw invalidType('value', 'a value JSON can hold', value);
  const length = Buffer.byteLength(text);
  if (length > maxBytes) throw outOfRange('value', `at most ${maxBytes} bytes of JSON`, `${length} bytes`);
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + length);
  bytes.writeUInt32LE(length, 0);
  bytes.write(text, HEADER_BYTES);
  return bytes;
}

/** Puts the number of descriptors into a message. */
export function announce(message: Buffer, fds: number): void {
  message.writeUInt32LE(fds, 4);
}

/** Puts the pieces a stream comes in together again, without copying small messages twice. */
export class Reassembly {
  #chunks: Buffer[] = [];
  /** bytes that wait */
  length = 0;
  /** of the message that is not complete */
  header: Header | undefined;

  push(bytes: Buffer): void {
    this.length += bytes.length;
    let piece = bytes;
    // Of a peer that writes byte by byte, the objects would take much more memory than the bytes.
    for (
      let last = this.#chunks.at(-1);
      last !== undefined && last.length <= piece.length && piece.length < PIECE_BYTES;
      last = this.#chunks.at(-1)
    ) {
      piece = Buffer.concat([last, piece]);
      this.#chunks.pop();
    }
    this.#chunks.push(piece);
  }

  /** Reads the header as soon as it is there. */
  readHeader(): Header | undefined {
    if (this.header === undefined && this.length >= HEADER_BYTES) {
      const bytes = this.#take(HEADER_BYTES);
      this.header = { length: bytes.readUInt32LE(0), fds: bytes.readUInt32LE(4) };
    }
    return this.header;
  }

  /** The text of the message whose header was read, as soon as it is there. */
  readText(): Buffer | undefined {
    if (this.header === undefined || this.length < this.header.length) return undefined;
    const text = this.#take(this.header.length);
    this.header = undefined;
    return text;
  }

  #take(count: number): Buffer {
    let first = this.#chunks[0] ?? Buffer.alloc(0);
    if (first.length < count) {
      first = Buffer.concat(this.#chunks);
      this.#chunks = [first];
    }
    this.length -= count;
    if (first.length === count) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(count);
    return first.subarray(0, count);
  }
}
