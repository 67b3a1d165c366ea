// SPDX-License-Identifier: MIT
/**
 * What messages look like on the wire of an {@link FdSocket}; `docs/sockets.md` has it for peers in other languages.
 *
 *     bytes 0 to 3   length of the body in bytes, little-endian
 *     bytes 4 and 5  number of descriptors, little-endian
 *     byte 6         what the body is: one of {@link Kind}
 *     byte 7         1: the descriptors are lent, and the first 4 bytes of the body are the number
 *                    of the loan, little-endian; else 0
 *     then           the body
 *
 * The descriptors travel by SCM_RIGHTS with the first byte of their message, so that they
 * have arrived when its last byte has, in the order of the messages. On a SOCK_SEQPACKET
 * socket each message is one record.
 *
 * @module
 */
import { DefaultSerializer, deserialize } from 'node:v8';
import { invalidType, invalidValue, outOfRange } from './errors.js';

/** Bytes before the body. */
export const HEADER_BYTES = 8;

/** Bytes of the number of a loan. */
export const LOAN_BYTES = 4;

/** What a body is. */
export const Kind = {
  /** JSON, UTF-8 */
  json: 0,
  /** bytes of the sender's */
  bytes: 1,
  /** of V8's serializer */
  v8: 2,
  /** the number of a loan that has come to its end, 4 bytes, little-endian */
  release: 3,
} as const;

const LENT = 1;

/** Bytes from which on a piece is worth an object of its own. */
const PIECE_BYTES = 65536;

/** A header that was read. */
export interface Header {
  length: number;
  fds: number;
  kind: number;
  lent: boolean;
}

/** Whether a header is one that this format knows. */
function isKnown(bytes: Buffer): boolean {
  const [kind, flags] = [bytes[6] as number, bytes[7] as number];
  return kind <= Kind.release && flags <= (kind === Kind.release ? 0 : LENT);
}

/** `serialize` of `node:v8`, but for its error. */
function serialize(value: unknown): Buffer {
  const serializer = new DefaultSerializer();
  // What it asks for the error it throws.
  Object.assign(serializer, { _getDataCloneError: (what: string) => invalidValue('value', `cannot be sent: ${what}`) });
  serializer.writeHeader();
  serializer.writeValue(value);
  return serializer.releaseBuffer();
}

/** A message with room for a body of `length` bytes. */
function frame(kind: number, length: number, loan: number | undefined): Buffer {
  const head = loan === undefined ? 0 : LOAN_BYTES;
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + head + length);
  bytes.writeUInt32LE(head + length, 0);
  bytes.writeUInt16LE(0, 4);
  bytes[6] = kind;
  bytes[7] = loan === undefined ? 0 : LENT;
  if (loan !== undefined) bytes.writeUInt32LE(loan, HEADER_BYTES);
  return bytes;
}

/**
 * JSON's own errors are TypeErrors without a code, and RangeErrors of what is nested too deep. What a `toJSON` of the
 * caller's throws is passed on, or is the cause.
 */
function stringify(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError) || 'code' in error) throw error;
    throw Object.assign(invalidValue('value', `cannot be sent: ${error.message}`), { cause: error });
  }
}

/**
 * A message as it goes out, but for the number of its descriptors, see {@link announce}.
 *
 * @param v8 - everything by V8's serializer; else bytes as they are, and the rest as JSON
 * @throws TypeError where the value cannot be held; RangeError where it is too long
 */
export function encode(value: unknown, maxBytes: number, v8: boolean, loan?: number): Buffer {
  if (!v8 && !(value instanceof Uint8Array)) {
    const text = stringify(value);
    if (text === undefined) throw invalidType('value', 'a value JSON can hold, or bytes', value);
    const length = Buffer.byteLength(text);
    checkLength(length, maxBytes, 'bytes of JSON');
    const message = frame(Kind.json, length, loan);
    message.write(text, message.length - length);
    return message;
  }
  const body = v8 ? serialize(value) : (value as Uint8Array);
  checkLength(body.length, maxBytes, 'bytes');
  const message = frame(v8 ? Kind.v8 : Kind.bytes, body.length, loan);
  message.set(body, message.length - body.length);
  return message;
}

function checkLength(length: number, most: number, unit: string): void {
  if (length > most) throw outOfRange('value', `at most ${most} ${unit}`, `${length} bytes`);
}

/** The message that ends a loan. */
export function encodeRelease(loan: number): Buffer {
  const message = frame(Kind.release, LOAN_BYTES, undefined);
  message.writeUInt32LE(loan, HEADER_BYTES);
  return message;
}

/**
 * What a body holds.
 *
 * @throws anything where it is none of its kind
 */
export function decode(kind: number, body: Buffer): unknown {
  if (kind === Kind.bytes) return body;
  return kind === Kind.v8 ? deserialize(body) : JSON.parse(body.toString());
}

/** Puts the number of descriptors into a message. */
export function announce(message: Buffer, fds: number): void {
  message.writeUInt16LE(fds, 4);
}

/** Puts the pieces a stream comes in together again, without copying small messages twice. */
export class Reassembly {
  #chunks: Buffer[] = [];
  /** bytes of the first chunk that were taken */
  #taken = 0;
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
      piece = Buffer.concat([this.#rest(last), piece]);
      this.#chunks.pop();
      if (this.#chunks.length === 0) this.#taken = 0;
    }
    this.#chunks.push(piece);
  }

  /**
   * Reads the header as soon as it is there.
   *
   * @throws where it is none of this format
   */
  readHeader(unknown: () => Error): Header | undefined {
    if (this.header === undefined && this.length >= HEADER_BYTES) {
      const bytes = this.#take(HEADER_BYTES);
      if (!isKnown(bytes)) throw unknown();
      this.header = {
        length: bytes.readUInt32LE(0),
        fds: bytes.readUInt16LE(4),
        kind: bytes[6] as number,
        lent: bytes[7] === LENT,
      };
    }
    return this.header;
  }

  /** The body of the message whose header was read, as soon as it is there. */
  readBody(): Buffer | undefined {
    if (this.header === undefined || this.length < this.header.length) return undefined;
    const body = this.#take(this.header.length);
    this.header = undefined;
    return body;
  }

  /** What is left of a chunk. */
  #rest(chunk: Buffer): Buffer {
    return chunk === this.#chunks[0] && this.#taken > 0 ? chunk.subarray(this.#taken) : chunk;
  }

  #take(count: number): Buffer {
    let first = this.#chunks[0] ?? Buffer.alloc(0);
    if (first.length - this.#taken < count) {
      first = Buffer.concat(this.#chunks.map((chunk) => this.#rest(chunk)));
      this.#chunks = [first];
      this.#taken = 0;
    }
    const start = this.#taken;
    this.length -= count;
    this.#taken += count;
    if (this.#taken === first.length) {
      this.#chunks.shift();
      this.#taken = 0;
    }
    return first.subarray(start, start + count);
  }
}
