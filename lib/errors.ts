// SPDX-License-Identifier: MIT
/** Errors in the shape of Node's own. @module */
import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { native } from './native.js';

/** Errnos that Node has no names for. */
const unnamed: ReadonlyMap<number, [string, string]> = new Map([
  [-native.constants.ETOOMANYREFS, ['ETOOMANYREFS', 'too many references']],
  [-constants.errno.ESTALE, ['ESTALE', 'stale file handle']],
]);

/** Codes of the errors that are neither the kernel's nor about arguments. */
export type DmaBufErrorCode =
  /** used after `close()`, or its descriptor was closed by something else */
  | 'ERR_DMABUF_CLOSED'
  /** a descriptor that is neither a dma-buf nor a sealed memfd */
  | 'ERR_DMABUF_NOT_A_DMABUF'
  /** a device is at work on the buffer: a fence is not signalled */
  | 'ERR_DMABUF_BUSY'
  /** this kind of heap, this kernel, or this Node.js cannot do it */
  | 'ERR_DMABUF_UNSUPPORTED'
  /** a peer of an {@link FdSocket} does not keep to its format */
  | 'ERR_DMABUF_PROTOCOL'
  /** descriptors sent to this process did not fit into it */
  | 'ERR_DMABUF_FDS_LOST';

/** What a system error carries beside its message, as far as it applies. */
export interface ErrorDetails {
  /** negative, as in Node's system errors */
  errno?: number;
  /** the call of the kernel that failed, or was not made */
  syscall?: string;
  /** what it was about */
  path?: string;
}

/** An error of this library itself; {@link DmaBufError.code} tells them apart. */
export class DmaBufError extends Error implements ErrorDetails {
  /** What has happened. */
  readonly code: DmaBufErrorCode;
  /** Negative, as in Node's system errors. */
  declare readonly errno?: number;
  /** The call of the kernel that failed, or was not made. */
  declare readonly syscall?: string;
  /** What it was about. */
  declare readonly path?: string;

  /** @internal */
  constructor(code: DmaBufErrorCode, message: string, details: ErrorDetails = {}) {
    super(message);
    this.name = 'DmaBufError';
    this.code = code;
    Object.assign(this, details);
  }
}

/** An error of the kernel, in the shape of Node's system errors. */
export interface SystemError extends Error {
  /** such as `'ENOMEM'` */
  code: string;
  /** negative */
  errno: number;
  /** the call that failed */
  syscall: string;
  /** what it was about */
  path?: string;
}

/**
 * The error for a negative errno.
 *
 * @param advice - what to do about it, a sentence
 * @internal
 */
export function systemError(errno: number, syscall: string, path?: string, advice?: string): SystemError {
  // No call of ours answers that: the bridge does, of a descriptor that is not the one it knows.
  if (errno === -constants.errno.ESTALE) return lost(path === undefined ? 'the object' : `'${path}'`, syscall, path);
  return answeredError(errno, syscall, path, advice);
}

/**
 * The error for a negative errno that is somebody else's answer, whatever it is.
 *
 * @param advice - what to do about it, a sentence
 * @internal
 */
export function answeredError(errno: number, syscall: string, path?: string, advice?: string): SystemError {
  const [code, text] = getSystemErrorMap().get(errno) ?? unnamed.get(errno) ?? [`E${-errno}`, 'unknown error'];
  // An abstract name of a socket begins with NUL, which tools show as @.
  const where = path === undefined ? syscall : `${syscall} '${path.replace(/^\0/, '@')}'`;
  const error = new Error(`${code}: ${text}, ${where}${advice === undefined ? '' : `. ${advice}`}`);
  return Object.assign(error, { errno, code, syscall }, path === undefined ? {} : { path });
}

/**
 * What an error of node:fs says, as an errno. The permission model of Node.js has none: what it refuses, it refuses as a
 * file's mode would.
 *
 * @internal
 */
export function errnoOf(error: unknown): number {
  const { code, errno } = error as NodeJS.ErrnoException;
  return code === 'ERR_ACCESS_DENIED' ? -constants.errno.EACCES : (errno ?? -constants.errno.EIO);
}

/** The error where something else has closed a descriptor of ours. @internal */
export function lost(what: string, syscall: string, path?: string): DmaBufError & SystemError {
  const errno = -constants.errno.EBADF;
  const error = new DmaBufError(
    'ERR_DMABUF_CLOSED',
    `The descriptor of ${what} was closed by something else. Use close(), or takeFd() where the number is to belong to other code`,
  );
  return Object.assign(error, { errno, syscall }, path === undefined ? {} : { path });
}

/** The call of the kernel that wrong arguments were not given to. */
export interface Call {
  syscall: string;
  path?: string;
  /** what the kernel would have said; default -EINVAL */
  errno?: number;
}

/** The same, or what says it where there is an error: a path may take longer to find than the call would. */
export type CallOrSaid = Call | (() => Call);

/** Errors about arguments carry `errno`, `syscall` and `path` where it is known what the call was to be. */
function argumentError<E extends Error>(error: E, code: string, call: CallOrSaid | undefined): E {
  const said = typeof call === 'function' ? call() : call;
  return Object.assign(error, { code }, said === undefined ? {} : { errno: -constants.errno.EINVAL, ...said });
}

/** @internal */
export function invalidType(name: string, expected: string, actual: unknown, call?: CallOrSaid): TypeError {
  const got = actual === null || actual === undefined ? String(actual) : `type ${typeof actual}`;
  const error = new TypeError(`The "${name}" argument must be ${expected}. Received ${got}`);
  return argumentError(error, 'ERR_INVALID_ARG_TYPE', call);
}

/** @internal */
export function invalidValue(name: string, reason: string, call?: CallOrSaid): TypeError {
  return argumentError(new TypeError(`The argument "${name}" ${reason}`), 'ERR_INVALID_ARG_VALUE', call);
}

/** @internal */
export function outOfRange(name: string, range: string, actual: unknown, call?: CallOrSaid): RangeError {
  const error = new RangeError(
    `The value of "${name}" is out of range. It must be ${range}. Received ${String(actual)}`,
  );
  return argumentError(error, 'ERR_OUT_OF_RANGE', call);
}

/** The error where a script makes itself what only this library makes; Node's own classes have the same. @internal */
export function illegalConstructor(made: string): TypeError {
  return argumentError(new TypeError(`Illegal constructor. ${made}`), 'ERR_ILLEGAL_CONSTRUCTOR', undefined);
}
