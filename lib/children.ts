// SPDX-License-Identifier: MIT
/** Sockets to the child processes and threads a process starts. @module */
import { type ChildProcess, type SpawnOptions, type StdioOptions, spawn } from 'node:child_process';
import { closeSync, fstatSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { getEnvironmentData, isMainThread, setEnvironmentData, Worker, type WorkerOptions } from 'node:worker_threads';
import { checkOptions } from './arguments.js';
import { invalidType, systemError } from './errors.js';
import { FdSocket } from './fd-socket.js';
import { native } from './native.js';
import type { FdSocketOptions } from './socket-options.js';

/** Where a child process finds its socket, and a thread: its number, and the inode it is to have. */
const VARIABLE = 'DMABUF_SOCKET';

const IN_THREAD = Symbol.for('dmabuf.socket');

/** Of a thread, until it is asked for. All copies of this library in it look there, as those in a process have process.env. */
const ofThread = globalThis as { [IN_THREAD]?: unknown };

// Taken from where the threads that this one starts would find it, too.
if (!isMainThread && getEnvironmentData(VARIABLE) !== undefined) {
  ofThread[IN_THREAD] = getEnvironmentData(VARIABLE);
  setEnvironmentData(VARIABLE, undefined as never);
}

const address = (fd: number, ino = fstatSync(fd).ino) => `${fd}:${ino}`;

/**
 * Starts a process, with a socket to it: {@link parentSocket} is the other end there. What is sent waits until it looks.
 * A program that is no Node.js finds the number of a blocking socket in the environment, before the colon of
 * `DMABUF_SOCKET`.
 *
 * The socket says that the process is gone, too: `receive()` is undefined then.
 *
 * @param command - what `spawn` of `node:child_process` takes, as `args` and `options` are
 * @param socketOptions - the child gives the same, but for `type`
 * @throws SystemError EMFILE; TypeError, RangeError
 */
export function spawnWithSocket(
  command: string,
  args: readonly string[] = [],
  options: SpawnOptions = {},
  socketOptions: FdSocketOptions = {},
): { child: ChildProcess; socket: FdSocket } {
  checkOptions(options, 'options', { syscall: 'spawn' });
  const [socket, other] = FdSocket.pair(socketOptions);
  const fd = other.takeFd();
  try {
    const stdio = listOf(options.stdio);
    const env = { ...(options.env ?? process.env), [VARIABLE]: address(stdio.length, fstatSync(fd).ino) };
    const child = spawn(command, args, { ...options, env, stdio: [...stdio, fd] });
    return { child, socket };
  } catch (error) {
    socket.close();
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** At least the three that every process has. */
function listOf(stdio: StdioOptions = 'pipe') {
  if (!Array.isArray(stdio)) return [stdio, stdio, stdio];
  return [...stdio, ...Array.from({ length: Math.max(0, 3 - stdio.length) }, () => 'pipe' as const)];
}

/**
 * Starts a thread, with a socket to it: {@link parentSocket} is the other end there. What is sent waits until it looks.
 *
 * @param script - what `Worker` of `node:worker_threads` takes, as `options` are
 * @param socketOptions - the thread gives the same, but for `type`
 * @throws SystemError EMFILE; TypeError, RangeError
 */
export function workerWithSocket(
  script: string | URL,
  options: WorkerOptions = {},
  socketOptions: FdSocketOptions = {},
): { worker: Worker; socket: FdSocket } {
  const [socket, other] = FdSocket.pair(socketOptions);
  // The thread takes the number, or its end does: this handle closes no other file that has it by then.
  const handle = native.adopt(other.takeFd());
  try {
    setEnvironmentData(VARIABLE, address(native.fd(handle)));
    const worker = new Worker(script, options);
    worker.once('exit', () => native.close(handle));
    return { worker, socket };
  } catch (error) {
    socket.close();
    native.close(handle);
    throw error;
  } finally {
    setEnvironmentData(VARIABLE, undefined as never);
  }
}

/**
 * The socket to whoever has started this process by {@link spawnWithSocket}, or this thread by {@link workerWithSocket}.
 * To be called once; the socket is the caller's.
 *
 * @throws SystemError ENOTCONN: it was started otherwise, or the socket was asked for before
 * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
 */
export function parentSocket(options: Omit<FdSocketOptions, 'type'> = {}): FdSocket {
  if (typeof options !== 'object') throw invalidType('options', 'of type object', options);
  const where = isMainThread ? process.env[VARIABLE] : ofThread[IN_THREAD];
  const fd = Number.parseInt(String(where), 10);
  if (!isThere(fd, where)) {
    const advice = isMainThread
      ? 'This process was not started by spawnWithSocket(), or has its socket already.'
      : 'This thread was not started by workerWithSocket(), or has its socket already.';
    throw systemError(-osConstants.errno.ENOTCONN, 'getsockopt', undefined, advice);
  }
  const socket = FdSocket.fromFd(fd, options);
  // Its own children are not to look for it.
  if (isMainThread) delete process.env[VARIABLE];
  else delete ofThread[IN_THREAD];
  return socket;
}

/** Whether the number is that of the socket that was meant: a process in between may have closed it. */
function isThere(fd: number, where: unknown): boolean {
  try {
    return address(fd) === where;
  } catch {
    return false;
  }
}
