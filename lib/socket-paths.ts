// SPDX-License-Identifier: MIT
/** Where unix sockets listen: paths in the file system, and abstract names, which begin with NUL. @module */
import { lstatSync, readFileSync, unlinkSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { basename } from 'node:path';
import { descriptorAdvice } from './advice.js';
import { checkPath } from './arguments.js';
import { invalidType, invalidValue, outOfRange } from './errors.js';
import { native } from './native.js';

const { constants } = native;
const { errno } = osConstants;

export function isAbstract(path: string): boolean {
  return path.startsWith('\0');
}

export function checkSocketPath(path: unknown, syscall: string): asserts path is string {
  if (typeof path !== 'string') throw invalidType('path', 'of type string', path, { syscall });
  const abstract = isAbstract(path);
  if (!abstract) checkPath(path, 'path', syscall);
  else if (path.length === 1) throw invalidValue('path', 'is NUL, after which no name comes', { syscall, path });
  const bytes = Buffer.byteLength(path);
  const most = constants.UNIX_PATH_MAX - (abstract ? 0 : 1);
  if (bytes > most) {
    const range = `at most ${most} bytes long, which is what a socket address holds`;
    throw outOfRange('path', range, bytes, { syscall, path });
  }
}

/** What file a path is, whatever is moved or put there later; '' where there is none. */
export function identify(path: string): string {
  try {
    const { dev, ino } = lstatSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return '';
  }
}

function isSocket(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true;
}

/** SS_UNCONNECTED of the kernel's linux/net.h, as /proc/net/unix has it. */
const UNCONNECTED = '01';

/** Of the flags there (linux/net.h): it listens. */
const SO_ACCEPTCON = 0x10000;

/** SOCK_DGRAM, as it has that: of such a socket no listener becomes. */
const DATAGRAM = '0002';

/** The flags of sockets with such a name, which listen or are about to. */
function bound(path: string): number[] {
  // Others may have bound it by another way to the same folder. Of abstract names all counts.
  const nameOf = (found: string) => (isAbstract(path) ? found : basename(found));
  const name = nameOf(path.replaceAll('\0', '@'));
  const lines = readFileSync('/proc/net/unix', 'utf8').split('\n');
  return lines.flatMap((line) => {
    // The name may have all that ends a line elsewhere.
    const [, flags = '', type, state, found] = /^\S+: \S+ \S+ (\S+) (\S+) (\S+) +\d+ (.*)$/s.exec(line) ?? [];
    if (state !== UNCONNECTED || type === DATAGRAM || found === undefined || nameOf(found) !== name) return [];
    return [Number.parseInt(flags, 16)];
  });
}

/** Whether a process has such a socket, which listens or is about to. */
function isBound(path: string): boolean {
  // A name with a line feed cannot be found there.
  return path.includes('\n') || bound(path).length > 0;
}

/** Whether a process has such a socket that does not listen: most are about to. */
export function isAboutToListen(path: string): boolean {
  try {
    return bound(path).some((flags) => (flags & SO_ACCEPTCON) === 0);
  } catch {
    // There is no /proc.
    return false;
  }
}

/** Whether a socket is there that its process has left. */
function isStale(path: string, type: number): boolean {
  if (!isSocket(path)) return false;
  const handle = native.socketConnect(path, type);
  if (handle > 0) native.close(handle);
  // Between bind(2) and listen(2) it refuses, too.
  return handle === -errno.ECONNREFUSED && !isBound(path);
}

/**
 * Removes a stale socket; what is anything else stays.
 *
 * Two processes may be at it: the second must not remove what the first has just made. So who removes the file holds
 * an abstract name of it meanwhile, which the kernel gives to one process at a time and takes back when that ends.
 *
 * @param then - runs before another may look at the path again
 */
export function replaceStale(path: string, type: number, then: () => number): number {
  const lock = native.socketListen(`\0dmabuf.stale:${identify(path)}`, 1, constants.SOCK_STREAM);
  if (lock < 0) return lock;
  try {
    if (!isStale(path, type)) return -errno.EADDRINUSE;
    unlinkSync(path);
    return then();
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? -errno.EADDRINUSE;
  } finally {
    native.close(lock);
  }
}

/** What a look at a path tells, where there may be one. */
function ifSeen(look: () => string | undefined): string | undefined {
  try {
    return look();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_ACCESS_DENIED') return undefined;
    return 'Node.js runs with --permission, which keeps that path from being looked at.';
  }
}

export function connectAdvice(error: number, path: string): string | undefined {
  return ifSeen(() => refusal(error, path));
}

export function listenAdvice(error: number, path: string, type: number): string | undefined {
  return ifSeen(() => obstacle(error, path, type));
}

function refusal(error: number, path: string): string | undefined {
  switch (-error) {
    case errno.ECONNREFUSED:
      if (isAbstract(path)) return 'Nobody listens on that name with this type.';
      if (!isSocket(path)) return 'That is no socket.';
      return 'The socket is there, but nobody listens on it any more.';
    case errno.ENOENT:
      return 'Nobody listens there.';
    case errno.EPROTOTYPE:
      return 'Its listener has sockets of the other type: say the same on both sides, { type: "stream" } or { type: "seqpacket" }.';
    case errno.EAGAIN:
      return 'The queue of its listener is full: it does not accept.';
    case errno.EACCES:
      return 'This user may not write to it: its mode, or that of a folder above, forbids it.';
    default:
      return descriptorAdvice(error);
  }
}

function obstacle(error: number, path: string, type: number): string | undefined {
  switch (-error) {
    case errno.EADDRINUSE:
      if (isAbstract(path)) return 'A process has that name already.';
      if (!isSocket(path)) return 'A file that is no socket is there: choose another path, or remove it.';
      if (!isStale(path, type)) return 'A process listens there already.';
      return 'A process that is gone has left a socket there: { replaceStale: true } takes its place, or remove it.';
    case errno.ENOENT:
      return 'Its folder does not exist: make that first.';
    case errno.EACCES:
      return 'This user may not make files in its folder.';
    default:
      return descriptorAdvice(error);
  }
}
