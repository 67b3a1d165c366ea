// SPDX-License-Identifier: MIT
/** What an {@link FdSocket} is made with. @module */
import { checkInteger, checkOptionNames, checkOptions } from './arguments.js';
import { type Call, invalidType, invalidValue } from './errors.js';
import { native } from './native.js';

const { constants } = native;

/** Most bytes of one message, if nothing else is said: 16 MiB. */
export const MAX_MESSAGE_BYTES = 16 << 20;

/** Most descriptors in one message, the kernel's SCM_MAX_FD: 253. */
export const MAX_MESSAGE_FDS = constants.SCM_MAX_FD;

/** Most that `maxMessageBytes` may be: 256 MiB, below what one string of V8's holds. */
const MOST_MESSAGE_BYTES = 256 << 20;

/** What an {@link FdSocket} and its peer agree upon, and what this side takes from the other. */
export interface FdSocketOptions {
  /**
   * `'stream'` (SOCK_STREAM, default), or `'seqpacket'` (SOCK_SEQPACKET), where each message is one record, which has to
   * fit into the send buffer (`net.core.wmem_default`, as a rule 208 KiB) whole.
   */
  type?: 'stream' | 'seqpacket';
  /**
   * What messages are.
   *
   * - `'json'` (default): JSON values, or bytes for a `Uint8Array`, in the format of `docs/sockets.md`
   * - `'v8'`: everything by V8's serializer (`node:v8`), which holds what `structuredClone` does. Both sides have to ask
   *   for it. It is not made for hostile peers, nor for those with an older Node.js
   * - `'raw'`: bytes and descriptors as they come, in no format: what one recvmsg(2) gave
   */
  format?: 'json' | 'v8' | 'raw';
  /**
   * most bytes of a message, both ways, from 1 to 256 MiB; default {@link MAX_MESSAGE_BYTES}. Of a raw stream, which has
   * no messages, most bytes that one `receive()` gives
   */
  maxMessageBytes?: number;
  /** most descriptors of a message that the peer may send, from 0 to {@link MAX_MESSAGE_FDS}, the default */
  maxFds?: number;
}

/** Options of {@link FdSocket.listen}. */
export interface ListenOptions extends FdSocketOptions {
  /**
   * Takes the place of a socket nobody listens on any more, which a process that was killed has left. Never of anything
   * else. Default: false
   */
  replaceStale?: boolean;
}

const types = { stream: constants.SOCK_STREAM, seqpacket: constants.SOCK_SEQPACKET } as const;
const formats = ['json', 'v8', 'raw'] as const;

const names = ['type', 'format', 'maxMessageBytes', 'maxFds'] satisfies (keyof FdSocketOptions)[];

/** All of {@link FdSocketOptions}. */
export type Checked = Required<FdSocketOptions>;

/** @param more - names of other options */
export function checkSocketOptions(options: unknown, call: Call, more: readonly string[] = []): Checked {
  checkOptions(options, 'options', call);
  checkOptionNames(options, [...names, ...more], call);
  const given = options as FdSocketOptions;
  const { type = 'stream', format = 'json', maxMessageBytes = MAX_MESSAGE_BYTES, maxFds = MAX_MESSAGE_FDS } = given;
  checkOneOf(type, 'type', Object.keys(types), call);
  checkOneOf(format, 'format', formats, call);
  checkInteger(maxMessageBytes, 'maxMessageBytes', 1, MOST_MESSAGE_BYTES, call);
  checkInteger(maxFds, 'maxFds', 0, MAX_MESSAGE_FDS, call);
  return { type, format, maxMessageBytes, maxFds };
}

function checkOneOf(value: unknown, name: string, known: readonly string[], call: Call): void {
  const expected = `one of ${known.join(', ')}`;
  if (typeof value !== 'string') throw invalidType(name, expected, value, call);
  if (!known.includes(value)) throw invalidValue(name, `must be ${expected}. Received '${value}'`, call);
}

/** SOCK_STREAM or SOCK_SEQPACKET */
export function typeNumber({ type }: Checked): number {
  return types[type];
}
