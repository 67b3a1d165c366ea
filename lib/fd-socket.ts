// SPDX-License-Identifier: MIT
import { constants as osConstants } from 'node:os';
import { descriptorAdvice } from './advice.js';
import { checkFd, checkInteger } from './arguments.js';
import { BufferMessage } from './buffer-message.js';
import { DmaBuf } from './dmabuf.js';
import { DmaBufError, illegalConstructor, invalidType, invalidValue, outOfRange, systemError } from './errors.js';
import { FdServer } from './fd-server.js';
import { OwnedHandle } from './handle.js';
import {
  announce,
  decode,
  encode,
  encodeRelease,
  HEADER_BYTES,
  type Header,
  Kind,
  LOAN_BYTES,
  Reassembly,
} from './message-format.js';
import { type Credentials, type Handle, native, numbers, Received } from './native.js';
import {
  type Checked,
  checkSocketOptions,
  type FdSocketOptions,
  type ListenOptions,
  MAX_MESSAGE_FDS,
  typeNumber,
} from './socket-options.js';
import { checkSocketPath, connectAdvice, isAboutToListen } from './socket-paths.js';
import { unwatch, watch } from './watch.js';

const { constants } = native;
const { errno } = osConstants;

/** A connection that is refused because the listener's queue is full is tried again for so long. */
const CONNECT_PATIENCE_MS = 10_000;
/** So is one that is refused because the listener has bound its socket and does not listen yet. */
const LISTEN_PATIENCE_MS = 1_000;
const CONNECT_RETRY_MS = 5;

/** Messages that are sent stay in the queue until they are as many, and half of it. */
const QUEUE_SWEEP = 1024;

/** Messages that are kept at most, when they are read because of loans. */
const INBOX_MESSAGES = 1024;

/** Bytes of messages that wait and go to the kernel together. */
const BATCH_BYTES = 32768;

/** One message of an {@link FdSocket}. */
export interface FdMessage {
  /** what the peer sent: out of JSON or of V8's serializer, or a `Buffer` where it sent bytes */
  value: unknown;
  /** Descriptors, close-on-exec, which belong to the receiver: give them to {@link DmaBuf.fromFd} or close them. */
  fds: number[];
  /** Where they are only lent: the number to give {@link FdSocket.release} when they are needed no more. */
  loan?: number;
}

/** A message the kernel has not taken whole yet. */
interface Outgoing {
  bytes: Uint8Array;
  offset: number;
  /** own duplicates, empty once they are sent */
  fds: Handle[];
  resolve: () => void;
  reject: (error: Error) => void;
}

/** A message that has arrived whole, whose descriptors are numbers that belong to nobody yet. */
interface Arrived {
  value: unknown;
  fds: number[];
  loan: number | undefined;
  /** of its body */
  bytes: number;
}

/** What a socket has of descriptors that nobody has received, which is not to outlive it. */
interface Held {
  /** those no complete message has claimed yet */
  fds: Handle[];
  /** messages that were read because of loans, and that nobody has asked for, with handles */
  inbox: Arrived[];
}

/** Bytes of one recvmsg of a stream. */
const RECEIVE_BYTES = 65536;

/** What was received last, in this thread. */
const received = Buffer.allocUnsafeSlow(RECEIVE_BYTES);

function letGo({ fds, inbox }: Held): void {
  for (const fd of fds.splice(0)) native.close(fd);
  for (const message of inbox.splice(0)) for (const fd of message.fds) native.close(fd);
}

const registry = new FinalizationRegistry(letGo);

interface Waiter {
  /** Descriptors are to be handles, not numbers. */
  owns: boolean;
  resolve: (value: FdMessage | undefined) => void;
  reject: (error: Error) => void;
}

/** Makes an {@link FdSocket} that owns `handle`. @internal */
export let ownSocket: (handle: Handle, options: Checked) => FdSocket;

/** Sends descriptors that come home when the peer says so, or is gone: `home` is called once, then. @internal */
export let lend: (
  socket: FdSocket,
  value: unknown,
  fds: readonly (DmaBuf | number)[],
  home: () => void,
) => Promise<void>;

const secret = Symbol('fd-socket');

/**
 * A connected unix socket whose messages carry values and file descriptors (SCM_RIGHTS).
 * `docs/sockets.md` has the format, which any language can speak.
 *
 * Messages are read when somebody asks for one: a peer that sends faster waits. While
 * something waits for a message, one waits to be sent, or buffers of a {@link BufferPool}
 * are lent, the process stays alive.
 */
export class FdSocket implements AsyncIterable<FdMessage>, Disposable {
  readonly #handle: OwnedHandle;
  readonly #options: Checked;
  readonly #incoming = new Reassembly();
  /** what one recvmsg gave, in raw mode */
  #chunk: Buffer | undefined;
  readonly #held: Held = { fds: [], inbox: [] };
  /** Numbers that came in this turn, later than those of #held. */
  #fresh: number[] = [];
  #inboxFds = 0;
  #inboxBytes = 0;
  #waiters: Waiter[] = [];
  #outgoing: Outgoing[] = [];
  /** the first of #outgoing that is not done */
  #next = 0;
  #loans = new Map<number, () => void>();
  #lastLoan = 0;
  #ended = false;
  /** The peer sends no more, and its loans are home, though what it has sent is not all read. */
  #gone = false;
  /** UV_READABLE, UV_WRITABLE, UV_DISCONNECT: what the poller watches for */
  #watched = 0;
  /** why it was closed, where nobody was told */
  #failure: Error | undefined;

  static {
    ownSocket = (handle, options) => new FdSocket(secret, handle, options);
    lend = (socket, value, fds, home) => socket.#lend(value, fds, home);
  }

  private constructor(key: symbol, handle: Handle, options: Checked) {
    if (key !== secret) throw illegalConstructor('An FdSocket is made by pair(), connect(), listen() or fromFd()');
    this.#options = options;
    this.#handle = new OwnedHandle(this, handle, 'FdSocket', undefined);
    registry.register(this, this.#held);
  }

  /**
   * Two sockets connected to each other (socketpair).
   *
   * @throws SystemError EMFILE
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
   */
  static pair(options: FdSocketOptions = {}): [FdSocket, FdSocket] {
    const checked = checkSocketOptions(options, { syscall: 'socketpair' });
    const pair = native.socketPair(typeNumber(checked));
    if (typeof pair === 'number') throw systemError(pair, 'socketpair', undefined, descriptorAdvice(pair));
    return [ownSocket(pair[0], checked), ownSocket(pair[1], checked)];
  }

  /**
   * Connects to a listening socket.
   *
   * @param path - in the file system, at most 107 bytes; or NUL and an abstract name, at most 108 bytes
   * @throws SystemError ENOENT, ECONNREFUSED (nobody listens there any more, or it is no socket), EACCES;
   *   EPROTOTYPE: the listener's type is another
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
   */
  static async connect(path: string, options: FdSocketOptions = {}): Promise<FdSocket> {
    checkSocketPath(path, 'connect');
    const checked = checkSocketOptions(options, { syscall: 'connect', path });
    let hopeful = true;
    for (const start = Date.now(); ; ) {
      const handle = native.socketConnect(path, typeNumber(checked));
      if (handle > 0) return ownSocket(handle, checked);
      const waited = Date.now() - start;
      const full = handle === -errno.EAGAIN && waited < CONNECT_PATIENCE_MS;
      const early = handle === -errno.ECONNREFUSED && waited < LISTEN_PATIENCE_MS && hopeful;
      if (!full && !early) throw systemError(handle, 'connect', path, connectAdvice(handle, path));
      // Whoever comes to listen between this look and the one before is there for the next attempt.
      if (early) hopeful = isAboutToListen(path);
      await new Promise((resolve) => setTimeout(resolve, CONNECT_RETRY_MS));
    }
  }

  /**
   * Listens on a path, which must not exist; closing the server removes it. Or on an abstract
   * name, which begins with NUL and is no file: it is gone with the server, and any user may connect to it.
   *
   * @throws SystemError EADDRINUSE, EACCES, ENOENT (no such directory)
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
   */
  static listen(path: string, options: ListenOptions = {}): FdServer {
    return FdServer.listen(path, options);
  }

  /**
   * Takes over a connected unix socket, such as one inherited by
   * `spawn(…, { stdio: [0, 1, 2, fd] })`. The number is not valid any more afterwards.
   * Where this throws, it still belongs to the caller.
   *
   * @throws SystemError EBADF, ENOTSOCK; EPROTOTYPE: not a unix socket of either type
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; RangeError ERR_OUT_OF_RANGE
   */
  static fromFd(fd: number, options: Omit<FdSocketOptions, 'type'> = {}): FdSocket {
    checkFd(fd, 'fd', 'getsockopt');
    const path = `/proc/self/fd/${fd}`;
    const checked = checkSocketOptions(options, { syscall: 'getsockopt', path });
    if ('type' in options) {
      throw invalidValue('options', "has a 'type', which the socket itself has", { syscall: 'getsockopt', path });
    }
    const original = native.adopt(fd);
    if (original === -errno.EBUSY) {
      const reason = `is ${fd}, which belongs to an open object of this library already`;
      throw invalidValue('fd', reason, { syscall: 'getsockopt', path });
    }
    // A number no script knows: libuv ends the process when one it watches is closed.
    const handle = original < 0 ? original : native.duplicate(original);
    const type = handle < 0 ? handle : native.socketType(handle);
    if (type < 0) {
      if (original > 0) native.release(original);
      if (handle > 0) native.close(handle);
      throw systemError(type, 'getsockopt', path, 'It is no unix socket of type SOCK_STREAM or SOCK_SEQPACKET.');
    }
    // Node's own streams go on using these numbers.
    if (fd <= 2) native.release(original);
    else native.close(original);
    return ownSocket(handle, { ...checked, type: type === constants.SOCK_STREAM ? 'stream' : 'seqpacket' });
  }

  /** Whether {@link FdSocket.close} was called, or a broken connection has closed it. */
  get closed(): boolean {
    return this.#handle.closed;
  }

  /** SOCK_STREAM or SOCK_SEQPACKET, the `type` of {@link FdSocketOptions}. */
  get type(): 'stream' | 'seqpacket' {
    return this.#options.type;
  }

  /**
   * Who the peer is, as the kernel knows (SO_PEERCRED): the process that connected, listened, or made the pair, and
   * the user it was then. Root of a user namespace has the number that this process sees.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  get peer(): Credentials {
    const peer = native.socketPeer(this.#handle.get('getsockopt'));
    if (typeof peer === 'number') throw systemError(peer, 'getsockopt');
    return peer;
  }

  /**
   * Sends a message.
   *
   * The descriptors stay the caller's, and may be closed as soon as this has returned its
   * promise: those of a message that has to wait are duplicated. So may the bytes be changed.
   *
   * @param value - what JSON can hold, or a `Uint8Array`, whose bytes arrive as a `Buffer`; at most
   *   {@link FdSocketOptions.maxMessageBytes}. In the format `'v8'` what `structuredClone` takes, in `'raw'` bytes,
   *   one at least
   * @param fds - at most {@link MAX_MESSAGE_FDS} buffers or numbers of descriptors
   * @returns settled when the kernel has taken the whole message
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE
   * @throws SystemError EPIPE: the peer is gone; EBADF: a descriptor is not open; EMSGSIZE: too long for one record
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  async send(value: unknown, fds: readonly (DmaBuf | number)[] = []): Promise<void> {
    this.#handle.get('sendmsg');
    // First what may run code of the caller's (toJSON, getters), which may close anything.
    await this.#submit(this.#encode(value), checkFds(fds));
  }

  /**
   * Says that the descriptors of a message are needed no more, which were lent: {@link FdMessage.loan}. They themselves
   * are closed by whoever has them.
   *
   * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE
   * @throws SystemError EPIPE; DmaBufError ERR_DMABUF_CLOSED
   */
  async release(loan: number): Promise<void> {
    checkInteger(loan, 'loan', 0, 0xffffffff, { syscall: 'sendmsg' });
    this.#handle.get('sendmsg');
    this.#checkFramed('release');
    await this.#submit(encodeRelease(loan), []);
  }

  async #lend(value: unknown, fds: readonly (DmaBuf | number)[], home: () => void): Promise<void> {
    this.#handle.get('sendmsg');
    this.#checkFramed('send');
    this.#lastLoan = (this.#lastLoan + 1) >>> 0;
    const loan = this.#lastLoan;
    const bytes = this.#encode(value, loan);
    const numbers = checkFds(fds);
    this.#loans.set(loan, home);
    try {
      await this.#submit(bytes, numbers);
    } catch (error) {
      // Nothing of a message that failed is with the peer.
      this.#comeHome(loan);
      throw error;
    }
    // From now on it listens for the end of the loan, which a peer that has shut down its side never sends.
    if (this.#ended || this.#gone) this.#comeHome(loan);
    else if (!this.closed) this.#watch();
  }

  #checkFramed(what: string): void {
    if (this.#options.format !== 'raw') return;
    const message = `A raw FdSocket has no loans, ${what}() of which is for sockets with messages`;
    throw new DmaBufError('ERR_DMABUF_UNSUPPORTED', message, { errno: -errno.EOPNOTSUPP, syscall: 'sendmsg' });
  }

  #encode(value: unknown, loan?: number): Uint8Array {
    const { format, maxMessageBytes } = this.#options;
    if (format !== 'raw') return encode(value, maxMessageBytes, format === 'v8', loan);
    if (!(value instanceof Uint8Array))
      throw invalidType('value', 'an instance of Uint8Array: the socket is raw', value);
    if (value.length < 1 || value.length > maxMessageBytes) {
      throw outOfRange('value', `from 1 to ${maxMessageBytes} bytes`, `${value.length} bytes`);
    }
    return value;
  }

  /** Gives a message to the kernel; a promise where some of it has to wait. */
  #submit(bytes: Uint8Array, numbers: readonly number[]): Promise<void> | undefined {
    const handle = this.#handle.get('sendmsg');
    const raw = this.#options.format === 'raw';
    if (!raw) announce(bytes as Buffer, numbers.length);
    let sent = 0;
    if (this.#next === this.#outgoing.length) {
      sent = native.socketSend(handle, bytes, 0, numbers);
      if (sent === bytes.length) return undefined;
      if (sent < 0 && sent !== -errno.EAGAIN) throw this.#sendError(sent);
    }
    // Once a byte is sent the descriptors are, too.
    const fds = sent > 0 ? [] : duplicateAll(numbers);
    const rest = raw ? Uint8Array.prototype.slice.call(bytes, Math.max(sent, 0)) : bytes;
    const offset = raw ? 0 : Math.max(sent, 0);
    return new Promise<void>((resolve, reject) => {
      this.#outgoing.push({ bytes: rest, offset, fds, resolve, reject });
      this.#watch();
    });
  }

  /**
   * The next message, or undefined when the peer has closed, whether it had read all that was
   * sent to it or not, or this socket is closed meanwhile.
   *
   * @throws DmaBufError ERR_DMABUF_PROTOCOL, ERR_DMABUF_FDS_LOST: the socket is closed then
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  async receive(): Promise<FdMessage | undefined> {
    return this.#receiveNext(false);
  }

  async #receiveNext(owns: boolean): Promise<FdMessage | undefined> {
    if (this.#failure !== undefined) return this.#lastOf(this.#failure, owns);
    this.#handle.get('recvmsg');
    return new Promise<FdMessage | undefined>((resolve, reject) => {
      this.#waiters.push({ owns, resolve, reject });
      if (this.#waiters.length === 1) this.#read();
    });
  }

  /** Messages until the peer closes, or this socket is closed. Leaving the loop leaves the socket open. */
  async *[Symbol.asyncIterator](): AsyncGenerator<FdMessage, void, void> {
    for (;;) {
      const message = await this.receive();
      if (message === undefined) return;
      yield message;
      if (this.closed && this.#failure === undefined) return;
    }
  }

  /**
   * Messages, like the iteration of the socket itself, with their descriptors as {@link DmaBuf}s:
   * `for await (using message of socket.buffers())` closes them after each turn, and sends those home that were lent.
   *
   * @throws DmaBufError ERR_DMABUF_NOT_A_DMABUF: a descriptor is something else; all of its message are closed, and the
   *   socket stays open
   * @throws what {@link FdSocket.receive} does
   */
  async *buffers(): AsyncGenerator<BufferMessage, void, void> {
    for (;;) {
      const message = await this.#receiveNext(true);
      if (message === undefined) return;
      yield BufferMessage.of(this, message);
      if (this.closed && this.#failure === undefined) return;
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
    try {
      return this.#handle.release('takeFd');
    } finally {
      if (this.closed) this.#drop(undefined);
    }
  }

  /**
   * Closes the socket, and the descriptors nobody has received. Messages that wait to be
   * sent are dropped, and their promises rejected. May be called twice.
   */
  close(): void {
    this.#failure = undefined;
    letGo(this.#held);
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
    unwatch(this);
    // What came before the failure that nobody knows of yet can still be received.
    letGo(this.#failure === undefined ? this.#held : { fds: this.#held.fds, inbox: [] });
    this.#chunk = undefined;
    this.#dropOutgoing(
      error ??
        new DmaBufError(
          'ERR_DMABUF_CLOSED',
          'The FdSocket was closed before the message was sent: await send() first',
          {
            errno: -errno.ECANCELED,
            syscall: 'sendmsg',
          },
        ),
    );
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { resolve, reject } of waiters) {
      if (error === undefined) resolve(undefined);
      else reject(error);
    }
    this.#allHome();
  }

  #dropOutgoing(error: Error): void {
    const outgoing = this.#outgoing.slice(this.#next);
    this.#outgoing = [];
    this.#next = 0;
    for (const { fds, reject } of outgoing) {
      for (const fd of fds) native.close(fd);
      reject(error);
    }
  }

  #comeHome(loan: number): boolean {
    const home = this.#loans.get(loan);
    this.#loans.delete(loan);
    home?.();
    return home !== undefined;
  }

  #allHome(): void {
    for (const loan of [...this.#loans.keys()]) this.#comeHome(loan);
  }

  /** Whether anybody wants what comes next: for loans, as long as not too much waits for somebody to ask for it. */
  get #wants(): boolean {
    if (this.#waiters.length > 0) return true;
    if (this.#loans.size === 0 || this.#held.inbox.length >= INBOX_MESSAGES) return false;
    return this.#inboxFds < MAX_MESSAGE_FDS && this.#inboxBytes < this.#options.maxMessageBytes;
  }

  get #listensFor(): number {
    if (this.#ended) return 0;
    if (this.#wants) return constants.UV_READABLE;
    // So much waits for somebody to ask for it that of the peer only its end is heard.
    return this.#loans.size > 0 ? constants.UV_DISCONNECT : 0;
  }

  #keep(message: Arrived): void {
    this.#held.inbox.push({ ...message, fds: message.fds.map(adoptNew) });
    this.#inboxFds += message.fds.length;
    this.#inboxBytes += message.bytes;
  }

  #takeKept(owns: boolean): Arrived | undefined {
    const message = this.#held.inbox.shift();
    this.#inboxFds -= message?.fds.length ?? 0;
    this.#inboxBytes -= message?.bytes ?? 0;
    return message && (owns ? message : { ...message, fds: message.fds.map((fd) => native.release(fd)) });
  }

  /** What is left of a socket that was closed while nobody asked for a message: those before that, and why. */
  #lastOf(failure: Error, owns: boolean): FdMessage {
    const kept = this.#takeKept(owns);
    if (kept !== undefined) return give(kept);
    this.#failure = undefined;
    throw failure;
  }

  #watch(): void {
    const events = this.#listensFor | (this.#next < this.#outgoing.length ? constants.UV_WRITABLE : 0);
    if (events === this.#watched) return;
    this.#watched = events;
    const error = watch(this, this.#handle, events, (self, happened) => self.#ready(happened));
    if (error < 0) this.#shut(systemError(error, 'poll'));
  }

  #ready(events: number): void {
    if (this.closed) return;
    // It watches no more then.
    if (events < 0) this.#watched = 0;
    // An error shows itself in the call that runs into it.
    if (events < 0 || (events & constants.UV_WRITABLE) !== 0) this.#write();
    if (!this.closed && (events < 0 || (events & constants.UV_READABLE) !== 0)) this.#read();
    const mayBeGone = events < 0 || (events & constants.UV_DISCONNECT) !== 0;
    if (!this.closed && mayBeGone && this.#listensFor === constants.UV_DISCONNECT) {
      this.#gone = true;
      this.#allHome();
      this.#watch();
    }
  }

  #write(): void {
    const handle = this.#handle.get('sendmsg');
    for (let first = this.#outgoing[this.#next]; first !== undefined; first = this.#outgoing[this.#next]) {
      const numbers = first.fds.map((fd) => native.fd(fd));
      const [bytes, offset] = this.#batch(first);
      const sent = native.socketSend(handle, bytes, offset, numbers);
      if (sent === -errno.EAGAIN) break;
      if (isBroken(sent)) {
        // What the peer has sent before can still be received.
        this.#dropOutgoing(this.#sendError(sent));
        break;
      }
      // Of a message that has begun the peer waits for the rest.
      if (sent < 0 && first.offset > 0) {
        this.#shut(this.#sendError(sent));
        return;
      }
      for (const fd of first.fds) native.close(fd);
      first.fds = [];
      if (sent < 0) {
        first.reject(this.#sendError(sent));
        this.#next++;
      } else this.#advance(sent);
    }
    if (this.#next === this.#outgoing.length) {
      this.#outgoing = [];
      this.#next = 0;
    } else if (this.#next >= QUEUE_SWEEP && this.#next * 2 > this.#outgoing.length) {
      // What is sent is not to be kept as long as something waits.
      this.#outgoing.splice(0, this.#next);
      this.#next = 0;
    }
    this.#watch();
  }

  /** What waits and can go with one call: on a stream also the messages after the first, up to one with descriptors. */
  #batch(first: Outgoing): [bytes: Uint8Array, offset: number] {
    const alone: [Uint8Array, number] = [first.bytes, first.offset];
    if (this.#options.type !== 'stream') return alone;
    let total = first.bytes.length - first.offset;
    const parts = [first.bytes.subarray(first.offset)];
    for (let at = this.#next + 1; at < this.#outgoing.length; at++) {
      const { bytes, fds } = this.#outgoing[at] as Outgoing;
      total += bytes.length;
      if (fds.length > 0 || total > BATCH_BYTES) break;
      parts.push(bytes);
    }
    return parts.length === 1 ? alone : [Buffer.concat(parts), 0];
  }

  /** So many bytes of what waits are sent. */
  #advance(sent: number): void {
    for (let left = sent; left > 0; ) {
      const first = this.#outgoing[this.#next] as Outgoing;
      const count = Math.min(left, first.bytes.length - first.offset);
      left -= count;
      first.offset += count;
      if (first.offset < first.bytes.length) return;
      first.resolve();
      this.#next++;
    }
  }

  #read(): void {
    try {
      while (this.#wants) {
        const waiter = this.#waiters[0];
        const kept = waiter && this.#takeKept(waiter.owns);
        const message = kept ?? this.#takeMessage();
        if (message !== undefined) {
          if (waiter === undefined) this.#keep(message);
          else if (waiter.owns && kept === undefined) {
            this.#waiters.shift();
            waiter.resolve(give({ ...message, fds: message.fds.map(adoptNew) }));
          } else this.#waiters.shift()?.resolve(give(message));
        }
        // The ends of loans were all that had come.
        else if (!this.#wants) break;
        else if (this.#ended) {
          this.#allHome();
          this.#waiters.shift()?.resolve(undefined);
        } else if (!this.#receive()) break;
      }
    } catch (error) {
      if (this.#waiters.length === 0) this.#failure = error as Error;
      this.#settle();
      this.#shut(error as Error);
      return;
    }
    this.#settle();
    if (!this.closed) this.#watch();
  }

  /** What came in this turn and no message has claimed is not to be lost with this object, or its thread. */
  #settle(): void {
    if (this.#fresh.length > 0) this.#held.fds.push(...this.#fresh.splice(0).map(adoptNew));
    native.socketClaimed();
  }

  /** One recvmsg; false where there is nothing to read now. */
  #receive(): boolean {
    const { format, type, maxMessageBytes, maxFds } = this.#options;
    const framed = format !== 'raw';
    const most = type === 'stream' ? 0 : maxMessageBytes + (framed ? HEADER_BYTES + LOAN_BYTES : 0);
    const handle = this.#handle.get('recvmsg');
    // What does not fit of a record is gone, so its length is asked for first.
    const next = type === 'stream' ? 0 : native.socketNext(handle);
    const room = next > RECEIVE_BYTES ? Buffer.allocUnsafeSlow(next) : received;
    const limit = type !== 'stream' ? most : framed ? RECEIVE_BYTES : maxMessageBytes;
    const into = room.length > limit ? room.subarray(0, limit) : room;
    const count = next < 0 ? next : native.socketReceive(handle, into, type !== 'stream');
    if (count < 0) {
      if (count === -errno.EAGAIN) return false;
      // The peer has closed, too, and had not read all of what was sent; what it had sent itself came before this.
      if (count === -errno.ECONNRESET) return true;
      throw systemError(count, 'recvmsg', undefined, 'The connection is broken.');
    }
    const [flags = 0, fdCount = 0] = numbers;
    for (let at = 2; at < 2 + fdCount; at++) this.#fresh.push(numbers[at] as number);
    if ((flags & Received.lost) !== 0) {
      throw new DmaBufError(
        'ERR_DMABUF_FDS_LOST',
        'Descriptors were lost on their way: this process has none left. Close what is no longer needed, or raise `ulimit -n`',
        { errno: -errno.EMFILE, syscall: 'recvmsg' },
      );
    }
    if ((flags & Received.cut) !== 0) throw protocolError(`a record of more than ${most} bytes`);
    if ((flags & Received.end) !== 0) {
      this.#end();
      return true;
    }
    const bytes = room === received ? Buffer.from(room.subarray(0, count)) : into.subarray(0, count);
    if (framed) {
      this.#incoming.push(bytes);
      if (type === 'seqpacket') this.#checkRecord(bytes);
    } else if (fdCount > maxFds) throw protocolError(`${fdCount} descriptors at once, and ${maxFds} are allowed`);
    else this.#chunk = bytes;
    return true;
  }

  /** A record is one message. */
  #checkRecord(bytes: Buffer): void {
    if (bytes.length < HEADER_BYTES || bytes.readUInt32LE(0) !== bytes.length - HEADER_BYTES) {
      throw protocolError(`a record of ${bytes.length} bytes that is not one message`);
    }
  }

  #end(): void {
    this.#ended = true;
    if (this.#incoming.header !== undefined || this.#incoming.length > 0) {
      throw protocolError('the peer has closed in the middle of a message');
    }
  }

  /** The next complete message of what has arrived. */
  #takeMessage(): Arrived | undefined {
    if (this.#options.format === 'raw') {
      const value = this.#chunk;
      this.#chunk = undefined;
      return value && { value, fds: this.#claim(this.#fdCount), loan: undefined, bytes: value.length };
    }
    const { maxMessageBytes, maxFds, format } = this.#options;
    for (;;) {
      const header = this.#incoming.readHeader(() => protocolError('a message of no kind there is'));
      if (header !== undefined) {
        const most = maxMessageBytes + (header.lent ? LOAN_BYTES : 0);
        if (header.length > most) throw protocolError(`a message of ${header.length} bytes`);
        if (header.fds > maxFds) throw protocolError(`a message of ${header.fds} descriptors`);
        if (header.kind === Kind.v8 && format !== 'v8') {
          throw protocolError("V8's serialization, for which this side has not asked: { format: 'v8' }");
        }
      }
      const body = this.#incoming.readBody();
      if (header === undefined || body === undefined) {
        // Descriptors come with the first byte of their message, so there are no others yet.
        const announced = header?.fds ?? (this.#incoming.length > 0 ? maxFds : 0);
        if (this.#fdCount > announced) throw protocolError('more descriptors than announced');
        return undefined;
      }
      if (this.#fdCount < header.fds) throw protocolError('fewer descriptors than announced');
      if (header.kind !== Kind.release) return this.#message(header, body);
      if (body.length !== LOAN_BYTES || !(this.#comeHome(body.readUInt32LE(0)) || this.#gone)) {
        throw protocolError('the end of a loan that there is not');
      }
    }
  }

  #message({ kind, lent, fds }: Header, body: Buffer): Arrived {
    if (lent && body.length < LOAN_BYTES) throw protocolError('a loan without a number');
    let value: unknown;
    try {
      value = decode(kind, lent ? body.subarray(LOAN_BYTES) : body);
    } catch (error) {
      throw protocolError(
        `a message that is no ${kind === Kind.v8 ? 'value of V8' : 'JSON'}: ${(error as Error).message}`,
      );
    }
    const loan = lent ? body.readUInt32LE(0) : undefined;
    return { value, fds: this.#claim(fds), loan, bytes: body.length };
  }

  /** Descriptors no message has claimed yet. */
  get #fdCount(): number {
    return this.#held.fds.length + this.#fresh.length;
  }

  /** The first of them. */
  #claim(count: number): number[] {
    if (count === 0) return [];
    if (this.#held.fds.length === 0 && count === this.#fresh.length) {
      const all = this.#fresh;
      this.#fresh = [];
      return all;
    }
    const early = this.#held.fds.splice(0, count).map((fd) => native.release(fd));
    return [...early, ...this.#fresh.splice(0, count - early.length)];
  }

  #sendError(error: number): Error {
    // Which of the two it is depends on the type, and on when the peer went.
    const code = isBroken(error) ? -errno.EPIPE : error;
    return systemError(code, 'sendmsg', undefined, sendAdvice(code));
  }
}

/** The message as its receiver gets it, whose the descriptors are from now on. */
function give({ value, fds, loan }: Arrived): FdMessage {
  return loan === undefined ? { value, fds } : { value, fds, loan };
}

const adoptNew = (fd: number) => native.adoptNew(fd);

function sendAdvice(error: number): string | undefined {
  switch (-error) {
    case constants.ETOOMANYREFS:
      return 'Too many descriptors are on their way: the peer has to receive some.';
    case errno.EPIPE:
    case errno.ECONNRESET:
      return 'The peer has closed the connection.';
    case errno.EBADF:
      return 'A descriptor to send is not open.';
    case errno.EMSGSIZE:
      return "A message on a socket of type 'seqpacket' has to fit into its send buffer (net.core.wmem_default) whole.";
    default:
      return descriptorAdvice(error);
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
