// SPDX-License-Identifier: MIT
import { rmSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { descriptorAdvice } from './advice.js';
import { checkFlag } from './arguments.js';
import { illegalConstructor, systemError } from './errors.js';
import { type FdSocket, ownSocket } from './fd-socket.js';
import { OwnedHandle } from './handle.js';
import { type Handle, native } from './native.js';
import { type Checked, checkSocketOptions, type ListenOptions, typeNumber } from './socket-options.js';
import { checkSocketPath, identify, isAbstract, listenAdvice, replaceStale } from './socket-paths.js';
import { unwatch, watch } from './watch.js';

const { constants } = native;
const { errno } = osConstants;

/** Connections that wait to be accepted, as Node's own servers have it. */
const BACKLOG = 511;

const secret = Symbol('fd-server');

interface Waiter {
  resolve: (value: FdSocket | undefined) => void;
  reject: (error: Error) => void;
}

/** A listening unix socket: an iteration of the {@link FdSocket}s that connect to it. */
export class FdServer implements AsyncIterable<FdSocket>, Disposable {
  /** Where it listens, as it was given. */
  readonly path: string;
  readonly #handle: OwnedHandle;
  readonly #identity: string;
  readonly #options: Checked;
  #waiters: Waiter[] = [];

  private constructor(key: symbol, handle: Handle, path: string, options: Checked) {
    if (key !== secret) throw illegalConstructor('An FdServer is made by FdSocket.listen()');
    this.path = path;
    this.#options = options;
    this.#identity = identify(path);
    this.#handle = new OwnedHandle(this, handle, `FdServer ${path.replace('\0', '@')}`, path);
  }

  /** @internal */
  static listen(path: string, options: ListenOptions = {}): FdServer {
    checkSocketPath(path, 'listen');
    const call = { syscall: 'listen', path };
    const checked = checkSocketOptions(options, call, ['replaceStale']);
    const { replaceStale: replace } = options;
    checkFlag(replace, 'replaceStale', call);
    const type = typeNumber(checked);
    const listen = () => native.socketListen(path, BACKLOG, type);
    let handle = listen();
    if (handle === -errno.EADDRINUSE && replace && !isAbstract(path)) handle = replaceStale(path, type, listen);
    if (handle < 0) throw systemError(handle, 'listen', path, listenAdvice(handle, path, type));
    return new FdServer(secret, handle, path, checked);
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

  /** Stops listening and removes the path, where it is still its own. Its connections live on. May be called twice. */
  close(): void {
    if (this.closed) return;
    unwatch(this);
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { resolve } of waiters) resolve(undefined);
    try {
      // Not where somebody else has put another socket there; as long as this is open its inode has no other.
      if (this.#identity !== '' && identify(this.path) === this.#identity) rmSync(this.path, { force: true });
    } finally {
      this.#handle.close();
    }
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
      else waiter?.resolve(ownSocket(handle, this.#options));
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
