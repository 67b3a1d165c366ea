// SPDX-License-Identifier: MIT
import { lstatSync, rmSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { descriptorAdvice } from './advice.js';
import { checkFd, checkPath } from './arguments.js';
import { DmaBuf } from './dmabuf.js';
import { DmaBufError, invalidType, invalidValue, outOfRange, systemError } from './errors.js';
import { OwnedHandle } from './handle.js';
import { announce, encode, Reassembly } from './message-format.js';
import { type Handle, native } from './native.js';

const { constants } = native;
const { errno } = osConstants;

/** Most bytes of JSON in one message: 16 MiB. */
export const MAX_MESSAGE_BYTES = 16 << 20;

/** Most descriptors in one message, the kernel's SCM_MAX_FD: 253. */
export const MAX_MESSAGE_FDS = constants.SCM_MAX_FD;

/** A connection that is refused because the listener's queue is full is tried again for so long. */
const CONNECT_PATIENCE_MS = 10_000;
const CONNECT_RETRY_MS = 5;

/** One message of an {@link FdSocket}. */
export interface FdMessage {
  /** what the peer sent, out of JSON */
  value: unknown;
  /** Descriptors, close-on-exec, which belong to the receiver: give them to {@link DmaBuf.fromFd} or close them. */
  fds: number[];
}

/** A message the kernel has not taken whole yet. */
interface Outgoing {
  bytes: Buffer;
  offset: number;
  /** own duplicates, empty once they are sent */
  fds: Handle[];
  resolve: () => void;
  reject: (error: Error) => void;
}

interface Waiter<T> {
  resolve: (value: T | undefined) => void;
  reject: (error: Error) => void;
}

/** Sockets something waits for: they stay alive without being referenced. */
const busy = new Set<object>();

/** Watches a descriptor for an owner the watch does not keep alive. */
function watch<T extends object>(
  owner: T,
  handle: OwnedHandle,
  events: number,
  ready: (owner: T, events: number) => void,
): number {
  if (events === 0) busy.delete(owner);
  else busy.add(owner);
  if (events === 0 && !handle.polled) return 0;
  const weak = new WeakRef(owner);
  const poller = handle.poll((happened) => {
    const target = weak.deref();
    if (target !== undefined) ready(target, happened);
  });
  return poller < 0 ? poller : native.pollerUpdate(poller, events);
}

function checkSocketPath(path: unknown, syscall: string): asserts path is string {
  checkPath(path, 'path', syscall);
  const bytes = Buffer.byteLength(path);
  const most = constants.UNIX_PATH_MAX - 1;
  if (bytes > most) {
    const range = `at most ${most} bytes long, which is what a socket address holds`;
    throw outOfRange('path', range, bytes, { syscall, path });
  }
}

let own: (handle: Handle) => FdSocket;

const secret = Symbol('fd-socket');

/**
 * A connected unix socket (SOCK_STREAM) whose messages carry JSON values and file
 * descriptors (SCM_RIGHTS). `message-format.ts` has the format.
 *
 * Messages are read when somebody asks for one: a peer that sends faster waits. While
 * something waits for a message, or one waits to be sent, the process stays alive.
 */
export class FdSocket implements AsyncIterable<FdMessage>, Disposable {
  readonly #handle: OwnedHandle;
  readonly #incoming = new Reassembly();
  /** received descriptors no complete message has claimed yet */
  #fds: Handle[] = [];
  #waiters: Waiter<FdMessage>[] = [];
  #outgoing: Outgoing[] = [];
  /** the first of #outgoing that is not done */
  #next = 0;
  #ended = false;

  static {
    own = (handle) => new FdSocket(secret, handle);
  }

  private constructor(key: symbol, handle: Handle) {
    if (key !== secret) throw new TypeError('An FdSocket is made by pair(), connect(), listen() or fromFd()');
    this.#handle = new OwnedHandle(this, handle, 'FdSocket', undefined);
  }

  /**
   * Two sockets connected to each other (socketpair).
   *
   * @throws SystemError EMFILE
   */
  static pair(): [FdSocket, FdSocket] {
    const pair = native.socketPair();
    if (typeof pair === 'number') throw systemError(pair, 'socketpair', undefined, descriptorAdvice(pair));
    return [own(pair[0]), own(pair[1])];
  }

  /**
   * Connects to a listening socket.
   *
   * @param path - in the file system, at most 107 bytes
   * @throws SystemError ENOENT, ECONNREFUSED (nobody listens there any more), EACCES
   */
  static async connect(path: string): Promise<FdSocket> {
    checkSocketPath(path, 'connect');
    for (const deadline = Date.now() + CONNECT_PATIENCE_MS; ; ) {
      const handle = native.socketConnect(path);
      if (handle > 0) return own(handle);
      if (handle !== -errno.EAGAIN || Date.now() > deadline)
        throw systemError(handle, 'connect', path, connectAdvice(handle));
      await new Promise((resolve) => setTimeout(resolve, CONNECT_RETRY_MS));
    }
  }

  /**
   * Listens on a path, which must not exist; closing the server removes it.
   *
   * @throws SystemError EADDRINUSE, EACCES, ENOENT (no such directory)
   */
  static listen(path: string): FdServer {
    return FdServer.listen(path);
  }

  /**
   * Takes over a connected unix stream socket, such as one inherited by
   * `spawn(…, { stdio: [0, 1, 2, fd] })`. The number is not valid any more afterwards.
   * Where this throws, it still belongs to the caller.
   *
   * @throws SystemError EBADF, ENOTSOCK; EPROTOTYPE: not a unix stream socket
   */
  static fromFd(fd: number): FdSocket {
    checkFd(fd, 'fd', 'getsockopt');
    const path = `/proc/self/fd/${fd}`;
    const original = native.adopt(fd);
    if (original === -errno.EBUSY) {
      const reason = `is ${fd}, which belongs to an open object of this library already`;
      throw invalidValue('fd', reason, { syscall: 'getsockopt', path });
    }
    // A number no script knows: libuv ends the process when one it watches is closed.
    const handle = original < 0 ? original : native.duplicate(original);
    const error = handle < 0 ? handle : native.socketCheck(handle);
    if (error < 0) {
      if (original > 0) native.release(original);
      if (handle > 0) native.close(handle);
      throw systemError(error, 'getsockopt', path, 'It is no unix stream socket.');
    }
    // Node's own streams go on using these numbers.
    if (fd <= 2) native.release(original);
    else native.close(original);
    return own(handle);
  }

  /** Whether {@link FdSocket.close} was called, or a broken connection has closed it. */
  get closed(): boolean {
    return this.#handle.closed;
  }

  /**
   * Sends a message.
   *
   * The descriptors stay the caller's, and may be closed as soon as this has returned its
   * promise: those of a message that has to wait are duplicated.
   *
   * @param value - what JSON can hold, at most {@link MAX_MESSAGE_BYTES}
   * @param fds - at most {@link MAX_MESSAGE_FDS} buffers or numbers of descriptors
   * @returns settled when the kernel has taken the whole message
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE
   * @throws SystemError EPIPE: the peer is gone; EBADF: a descriptor is not open
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  async send(value: unknown, fds: readonly (DmaBuf | number)[] = []): Promise<void> {
    this.#handle.get('sendmsg');
    // First what may run code of the caller's (toJSON, getters), which may close anything.
    const bytes = encode(value, MAX_MESSAGE_BYTES);
    const numbers = checkFds(fds);
    const handle = this.#handle.get('sendmsg');
    announce(bytes, numbers.length);
    let sent = 0;
    if (this.#next === this.#outgoing.length) {
      sent = native.socketSend(handle, bytes, 0, numbers);
      if (sent === bytes.length) return;
      if (sent < 0 && sent !== -errno.EAGAIN) throw this.#sendError(sent);
    }
    // Once a byte is sent the descriptors are, too.
    const pending = sent > 0 ? [] : duplicateAll(numbers);
    await new Promise<void>((resolve, reject) => {
      this.#outgoing.push({ bytes, offset: Math.max(sent, 0), fds: pending, resolve, reject });
      this.#watch();
    });
  }

  /**
   * The next message, or undefined when the peer has closed, or this socket is closed
   * meanwhile.
   *
   * @throws DmaBufError ERR_DMABUF_PROTOCOL, ERR_DMABUF_FDS_LOST: the socket is closed then
   * @throws DmaBufError ERR_DMABUF_CLOSED
   * @throws SystemError ECONNRESET
   */
  async receive(): Promise<FdMessage | undefined> {
    this.#handle.get('recvmsg');
    return new Promise<FdMessage | undefined>((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      if (this.#waiters.length === 1) this.#read();
    });
  }

  /** Messages until the peer closes, or this socket is closed. Leaving the loop leaves the socket open. */
  async *[Symbol.asyncIterator](): AsyncGenerator<FdMessage, void, void> {
    for (;;) {
      const message = await this.receive();
      if (message === undefined) return;
      yield message;
      if (this.closed) return;
    }
  }

  /**
   * The descriptor, which belongs to the caller from now on: this object is closed. It can
   * be given to a child by `spawn(…, { stdio: [0, 1, 2, fd] })`, and is to be closed here
   * then. Messages that arrived and were not received are lost.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  takeFd(): number {
    const number = this.#handle.release('takeFd');
    this.#drop(undefined);
    return number;
  }

  /**
   * Closes the socket, and the descriptors nobody has received. Messages that wait to be
   * sent are dropped, and their promises rejected. May be called twice.
   */
  close(): void {
    this.#shut(undefined);
  }

  /** The same as {@link FdSocket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #shut(error: Error | undefined): void {
    if (this.closed) return;
    this.#handle.close();
    this.#drop(error);
  }

  /** Gives up everything that waits. */
  #drop(error: Error | undefined): void {
    busy.delete(this);
    for (const fd of this.#fds) native.close(fd);
    this.#fds = [];
    const outgoing = this.#outgoing.slice(this.#next);
    this.#outgoing = [];
    this.#next = 0;
    const dropped = () =>
      new DmaBufError('ERR_DMABUF_CLOSED', 'The FdSocket was closed before the message was sent: await send() first', {
        errno: -errno.ECANCELED,
        syscall: 'sendmsg',
      });
    for (const { fds, reject } of outgoing) {
      for (const fd of fds) native.close(fd);
      reject(error ?? dropped());
    }
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { resolve, reject } of waiters) {
      if (error === undefined) resolve(undefined);
      else reject(error);
    }
  }

  #watch(): void {
    const events =
      (this.#waiters.length > 0 && !this.#ended ? constants.UV_READABLE : 0) |
      (this.#next < this.#outgoing.length ? constants.UV_WRITABLE : 0);
    const error = watch(this, this.#handle, events, (self, happened) => self.#ready(happened));
    if (error < 0) this.#shut(systemError(error, 'poll'));
  }

  #ready(events: number): void {
    if (this.closed) return;
    // An error shows itself in the call that runs into it.
    if (events < 0 || (events & constants.UV_WRITABLE) !== 0) this.#write();
    if (!this.closed && (events < 0 || (events & constants.UV_READABLE) !== 0)) this.#read();
  }

  #write(): void {
    const handle = this.#handle.get('sendmsg');
    for (let first = this.#outgoing[this.#next]; first !== undefined; first = this.#outgoing[this.#next]) {
      const numbers = first.fds.map((fd) => native.fd(fd));
      const sent = native.socketSend(handle, first.bytes, first.offset, numbers);
      if (sent === -errno.EAGAIN) break;
      // Of a message that has begun the peer waits for the rest.
      if (sent < 0 && (first.offset > 0 || isBroken(sent))) {
        this.#shut(this.#sendError(sent));
        return;
      }
      for (const fd of first.fds) native.close(fd);
      first.fds = [];
      first.offset += Math.max(sent, 0);
      if (sent < 0) first.reject(this.#sendError(sent));
      else if (first.offset === first.bytes.length) first.resolve();
      else continue;
      this.#next++;
    }
    if (this.#next === this.#outgoing.length) {
      this.#outgoing = [];
      this.#next = 0;
    }
    this.#watch();
  }

  #read(): void {
    try {
      while (this.#waiters.length > 0) {
        const message = this.#takeMessage();
        if (message !== undefined) this.#waiters.shift()?.resolve(message);
        else if (this.#ended) this.#waiters.shift()?.resolve(undefined);
        else if (!this.#receive()) break;
      }
    } catch (error) {
      this.#shut(error as Error);
      return;
    }
    if (!this.closed) this.#watch();
  }

  /** One recvmsg; false where there is nothing to read now. */
  #receive(): boolean {
    const received = native.socketReceive(this.#handle.get('recvmsg'));
    if (typeof received === 'number') {
      if (received === -errno.EAGAIN) return false;
      throw systemError(received, 'recvmsg', undefined, 'The connection is broken.');
    }
    this.#fds.push(...received.fds);
    if (received.truncated) {
      throw new DmaBufError(
        'ERR_DMABUF_FDS_LOST',
        'Descriptors were lost on their way: this process has none left. Close what is no longer needed, or raise `ulimit -n`',
        { errno: -errno.EMFILE, syscall: 'recvmsg' },
      );
    }
    if (received.bytes.length > 0) this.#incoming.push(received.bytes);
    else this.#end();
    return true;
  }

  #end(): void {
    this.#ended = true;
    if (this.#incoming.header !== undefined || this.#incoming.length > 0) {
      throw protocolError('the peer has closed in the middle of a message');
    }
  }

  /** The next complete message of what has arrived. */
  #takeMessage(): FdMessage | undefined {
    const header = this.#incoming.readHeader();
    if (header !== undefined) {
      if (header.length > MAX_MESSAGE_BYTES) throw protocolError(`a message of ${header.length} bytes`);
      if (header.fds > MAX_MESSAGE_FDS) throw protocolError(`a message of ${header.fds} descriptors`);
    }
    const text = this.#incoming.readText();
    if (header === undefined || text === undefined) {
      // Descriptors come with the first byte of their message, so there are no others yet.
      const announced = header?.fds ?? (this.#incoming.length > 0 ? MAX_MESSAGE_FDS : 0);
      if (this.#fds.length > announced) throw protocolError('more descriptors than announced');
      return undefined;
    }
    if (this.#fds.length < header.fds) throw protocolError('fewer descriptors than announced');
    let value: unknown;
    try {
      value = JSON.parse(text.toString());
    } catch (error) {
      throw protocolError(`a message that is no JSON: ${(error as Error).message}`);
    }
    return { value, fds: this.#fds.splice(0, header.fds).map((fd) => native.release(fd)) };
  }

  #sendError(error: number): Error {
    if (error === -constants.ETOOMANYREFS) {
      return systemError(
        error,
        'sendmsg',
        undefined,
        'Too many descriptors are on their way: the peer has to receive some.',
      );
    }
    if (isBroken(error)) {
      return systemError(error, 'sendmsg', undefined, 'The peer has closed the connection.');
    }
    if (error === -errno.EBADF) return systemError(error, 'sendmsg', undefined, 'A descriptor to send is not open.');
    return systemError(error, 'sendmsg', undefined, descriptorAdvice(error));
  }
}

function isBroken(error: number): boolean {
  return error === -errno.EPIPE || error === -errno.ECONNRESET;
}

function protocolError(what: string): DmaBufError {
  const message = `The peer of this FdSocket does not keep to the format: ${what}. Connect it to another FdSocket`;
  return new DmaBufError('ERR_DMABUF_PROTOCOL', message, { errno: -errno.EPROTO, syscall: 'recvmsg' });
}

function checkFds(fds: unknown): number[] {
  if (!Array.isArray(fds)) throw invalidType('fds', 'an array of DmaBuf objects or descriptors', fds);
  if (fds.length > MAX_MESSAGE_FDS) {
    throw outOfRange('fds.length', `at most ${MAX_MESSAGE_FDS}, the kernel's limit for one message`, fds.length);
  }
  return [...(fds as unknown[])].map((fd, index) => {
    if (fd instanceof DmaBuf) return fd.fd;
    checkFd(fd, `fds[${index}]`, 'sendmsg');
    return fd;
  });
}

function duplicateAll(numbers: readonly number[]): Handle[] {
  const handles: Handle[] = [];
  for (const number of numbers) {
    const handle = native.duplicateFd(number);
    if (handle < 0) {
      for (const made of handles) native.close(made);
      throw systemError(handle, 'fcntl', `/proc/self/fd/${number}`, descriptorAdvice(handle));
    }
    handles.push(handle);
  }
  return handles;
}

function connectAdvice(error: number): string | undefined {
  switch (-error) {
    case errno.ECONNREFUSED:
      return 'The path is there, but nobody listens on it any more.';
    case errno.ENOENT:
      return 'Nobody listens there.';
    case errno.EAGAIN:
      return 'The queue of its listener is full: it does not accept.';
    case errno.EACCES:
      return 'This user may not write to it: its mode, or that of a folder above, forbids it.';
    default:
      return descriptorAdvice(error);
  }
}

function listenAdvice(error: number): string | undefined {
  switch (-error) {
    case errno.EADDRINUSE:
      return 'The path exists: remove it, if no process listens on it any more.';
    case errno.ENOENT:
      return 'Its folder does not exist: make that first.';
    case errno.EACCES:
      return 'This user may not make files in its folder.';
    default:
      return descriptorAdvice(error);
  }
}

/** A listening unix socket: an iteration of the {@link FdSocket}s that connect to it. */
export class FdServer implements AsyncIterable<FdSocket>, Disposable {
  /** Where it listens, as it was given. */
  readonly path: string;
  readonly #handle: OwnedHandle;
  readonly #identity: string;
  #waiters: Waiter<FdSocket>[] = [];

  private constructor(key: symbol, handle: Handle, path: string) {
    if (key !== secret) throw new TypeError('An FdServer is made by FdSocket.listen()');
    this.path = path;
    this.#identity = identify(path);
    this.#handle = new OwnedHandle(this, handle, `FdServer ${path}`, path);
  }

  /** @internal */
  static listen(path: string): FdServer {
    checkSocketPath(path, 'listen');
    const handle = native.socketListen(path, 511);
    if (handle < 0) throw systemError(handle, 'listen', path, listenAdvice(handle));
    return new FdServer(secret, handle, path);
  }

  /** Whether {@link FdServer.close} was called. */
  get closed(): boolean {
    return this.#handle.closed;
  }

  /**
   * The next connection, or undefined when the server is closed meanwhile.
   *
   * @throws SystemError EMFILE: the connection goes on waiting
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  async accept(): Promise<FdSocket | undefined> {
    this.#handle.get('accept');
    return new Promise<FdSocket | undefined>((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      if (this.#waiters.length === 1) this.#accept();
    });
  }

  /** Connections until the server is closed. */
  async *[Symbol.asyncIterator](): AsyncGenerator<FdSocket, void, void> {
    for (;;) {
      const socket = await this.accept();
      if (socket === undefined) return;
      yield socket;
      if (this.closed) return;
    }
  }

  /** Stops listening and removes the path. Its connections live on. May be called twice. */
  close(): void {
    if (this.closed) return;
    busy.delete(this);
    this.#handle.close();
    // Not where somebody else has put another socket there.
    if (identify(this.path) === this.#identity) rmSync(this.path, { force: true });
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { resolve } of waiters) resolve(undefined);
  }

  /** The same as {@link FdServer.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #accept(): void {
    while (this.#waiters.length > 0) {
      const handle = native.socketAccept(this.#handle.get('accept'));
      if (handle === -errno.EAGAIN) break;
      const waiter = this.#waiters.shift();
      if (handle < 0) waiter?.reject(systemError(handle, 'accept', this.path, descriptorAdvice(handle)));
      else waiter?.resolve(own(handle));
    }
    const error = watch(this, this.#handle, this.#waiters.length > 0 ? constants.UV_READABLE : 0, (self) => {
      if (!self.closed) self.#accept();
    });
    if (error < 0) {
      const waiters = this.#waiters;
      this.#waiters = [];
      for (const { reject } of waiters) reject(systemError(error, 'poll', this.path));
    }
  }
}

function identify(path: string): string {
  try {
    const { dev, ino } = lstatSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return '';
  }
}
