// SPDX-License-Identifier: MIT
import { closeSync } from 'node:fs';
import { DmaBuf } from '../dmabuf.js';
import type { FdServer } from '../fd-server.js';
import { type FdMessage, FdSocket } from '../fd-socket.js';
import { CommandError } from './command-error.js';
import { runWith, signalled } from './inherited.js';
import { type Column, json, paragraph, print, table } from './print.js';
import { type Args, integer } from './usage.js';

const columns: Column<DmaBuf>[] = [
  { title: 'INODE', value: ({ inode }) => inode },
  { title: 'KIB', value: ({ size }) => size / 1024 },
  { title: 'NAME', value: ({ name }) => name, least: 8 },
  { title: 'EXPORTER', value: ({ exporterName }) => exporterName, least: 8, spare: 1 },
];

export async function run({ values, positionals, command }: Args<'recv'>): Promise<number> {
  const count = integer('--count', values.count ?? '1', 1, Number.MAX_SAFE_INTEGER);
  using receiver = new Receiver(positionals[0] as string);
  for (let left = count; left > 0; left--) {
    const message = await receiver.next();
    if (message === undefined) return receiver.exitCode;
    const code = await take(message, values.json ?? false, command);
    receiver.giveBack(message);
    if (code !== 0) return code;
  }
  return 0;
}

/** Messages of one peer after the other, until a signal comes. */
class Receiver implements Disposable {
  readonly #server: FdServer;
  #socket: FdSocket | undefined;
  #signal: NodeJS.Signals | undefined;
  readonly #stop = (signal: NodeJS.Signals) => {
    this.#signal = signal;
    this.#server.close();
    this.#socket?.close();
  };

  constructor(path: string) {
    // Before there is a path that a signal could leave behind.
    for (const signal of signals) process.on(signal, this.#stop);
    this.#server = FdSocket.listen(path);
  }

  /** Of the signal that came. */
  get exitCode(): number {
    return this.#signal === undefined ? 0 : signalled(this.#signal);
  }

  async next(): Promise<FdMessage | undefined> {
    while (this.#signal === undefined) {
      this.#socket ??= await this.#server.accept();
      const message = await this.#socket?.receive();
      if (message !== undefined) return message;
      this.#socket?.close();
      this.#socket = undefined;
    }
    return undefined;
  }

  /** Tells a peer that has lent the buffers of a message that they are back. */
  giveBack({ loan }: FdMessage): void {
    const socket = this.#socket;
    if (loan === undefined || socket === undefined || socket.closed) return;
    // One that is gone has them; one that does not read is not waited for.
    void socket.release(loan).catch(() => {});
  }

  [Symbol.dispose](): void {
    this.#server.close();
    this.#socket?.close();
    for (const signal of signals) process.off(signal, this.#stop);
  }
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Shows a message, or runs a command with it; answers with the exit code. */
async function take({ value, fds }: FdMessage, asJson: boolean, command: string[] | undefined): Promise<number> {
  const buffers: DmaBuf[] = [];
  try {
    for (const fd of fds) buffers.push(DmaBuf.fromFd(fd));
    const text = textOf(value);
    if (command) return await runWith(buffers, command, { DMABUF_VALUE: text });
    await show(value, text, buffers, asJson);
    return 0;
  } finally {
    for (const buffer of buffers) buffer.close();
    // Behind one that is no buffer.
    for (const fd of fds.slice(buffers.length)) closeSync(fd);
  }
}

/** What a message says, as JSON, which JSON.parse() can nest deeper than JSON.stringify() gets. */
function textOf(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch (error) {
    throw new CommandError(`What the message says cannot be told as JSON: ${(error as Error).message}.`);
  }
}

async function show(value: unknown, text: string, buffers: readonly DmaBuf[], asJson: boolean): Promise<void> {
  if (asJson) {
    const all = buffers.map(({ inode, size, name, exporterName, dma }) => ({
      inode,
      size,
      name,
      exporter: exporterName,
      dma,
    }));
    await print(json({ value, buffers: all }));
    return;
  }
  await print(paragraph(text, 0));
  await print(table(columns, buffers));
}
