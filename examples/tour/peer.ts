// SPDX-License-Identifier: MIT
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DmaBuf, FdSocket } from 'dmabuf';
import { check } from './check.ts';

/** What a script that {@link Peer.start} runs was sent: a value and the buffer that came with it. */
export async function receiveBuffer(socket: FdSocket): Promise<{ value: unknown; buffer: DmaBuf }> {
  const message = await socket.receive();
  const [fd] = message?.fds ?? [];
  check(message !== undefined && fd !== undefined, 'no buffer came through the socket');
  return { value: message.value, buffer: DmaBuf.fromFd(fd) };
}

/** A second Node process that runs a script of this directory, connected by a unix socket. */
export class Peer {
  readonly #child: ChildProcess;
  readonly socket: FdSocket;

  private constructor(child: ChildProcess, socket: FdSocket) {
    this.#child = child;
    this.socket = socket;
  }

  /** The script gets the path of the socket, and connects to it. */
  static async start(script: string): Promise<Peer> {
    const directory = mkdtempSync(join(tmpdir(), 'dmabuf-tour-'));
    const server = FdSocket.listen(join(directory, 'socket'));
    try {
      const path = fileURLToPath(new URL(script, import.meta.url));
      const child = spawn(process.execPath, [path, server.path], { stdio: 'inherit' });
      const failed = once(child, 'exit').then(() => undefined);
      const socket = await Promise.race([server.accept(), failed]);
      check(socket !== undefined, `${script} ended with ${child.exitCode ?? child.signalCode} before it connected`);
      return new Peer(child, socket);
    } finally {
      server.close();
      rmSync(directory, { recursive: true });
    }
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** What it says next. */
  async answer(): Promise<unknown> {
    const message = await this.socket.receive();
    check(message !== undefined, 'the other process has ended without an answer');
    return message.value;
  }

  /** Ends it at once, where the tour stops before it was needed. */
  stop(): void {
    this.#child.kill('SIGKILL');
    this.socket.close();
  }

  /** Lets it end, and checks that it was content. */
  async end(): Promise<void> {
    this.socket.close();
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit');
    const { exitCode, signalCode } = this.#child;
    check(exitCode === 0, `the other process ended with ${exitCode ?? signalCode}`);
  }
}
