// SPDX-License-Identifier: MIT
// A running guest: QEMU, and the other side of the agent's ports (guest-root/agent.c tells the protocol).
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { eachLine } from './run.ts';

export type Input = 'pty' | 'pipe' | 'null';

export interface Program {
  argv: string[];
  env: Record<string, string>;
  cwd: string;
  input: Input;
  window?: [rows: number, columns: number];
}

/** How a program ended, as a shell counts it: its code, or 128 and the signal. */
export interface Ending {
  code: number;
  /** errno if it could not be started. */
  error?: number;
}

/** The guest is gone, by its own doing or QEMU's. */
export class GuestGone extends Error {}

interface Events {
  /** A line of the kernel's console. */
  console: [line: string];
  /** Bytes a program wrote: 1 standard output, 2 standard error. */
  output: [stream: 1 | 2, bytes: Buffer];
  started: [];
  gone: [];
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** QEMU's options want a comma in a value written twice. */
export const quoted = (value: string) => value.replaceAll(',', ',,');

const PORTS = ['control', 'input', 'output'];
const FIRST_FD = 3;

export class Guest extends EventEmitter<Events> {
  readonly #qemu: ChildProcess;
  readonly #control: Socket;
  readonly #input: Socket;
  readonly #output: Socket;
  readonly #monitor: Socket;
  #qemuErrors = '';
  #waiting: { types: string; resolve: (message: Message) => void; reject: (error: Error) => void } | undefined;
  #gone = false;

  /**
   * @param bus how virtio devices are attached
   * @param args everything but the ports, the console and the monitor
   */
  constructor(program: string, bus: 'device' | 'pci', args: string[]) {
    super();
    const channels = ['console', ...PORTS, 'monitor'];
    const own = channels.flatMap((name, i) => ['-chardev', `socket,id=${name},fd=${FIRST_FD + i}`]);
    own.push('-serial', 'chardev:console', '-qmp', 'chardev:monitor', '-device', `virtio-serial-${bus}`);
    for (const name of PORTS) own.push('-device', `virtserialport,chardev=${name},name=${name}`);
    const common = ['-nodefaults', '-display', 'none', '-no-reboot'];
    // The kernel ends QEMU when this process ends, however that happens.
    this.#qemu = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...common, ...own, ...args], {
      stdio: ['ignore', 'pipe', 'pipe', ...channels.map(() => 'pipe' as const)],
      // A Ctrl-C at the terminal is for us to act on.
      detached: true,
    });
    const sockets = channels.map((_, i) => this.#qemu.stdio[FIRST_FD + i] as unknown as Socket);
    [, this.#control, this.#input, this.#output, this.#monitor] = sockets as [Socket, Socket, Socket, Socket, Socket];
    for (const socket of sockets) socket.on('error', () => {});
    const keep = (data: Buffer) => {
      this.#qemuErrors = (this.#qemuErrors + data).slice(-4000);
    };
    this.#qemu.stdout?.on('data', keep);
    this.#qemu.stderr?.on('data', keep);
    eachLine(sockets[0] as Socket, (line) => this.emit('console', line.replace(/\r+$/, '')));
    framed(this.#control, (type, payload) => {
      const message = { type: String.fromCharCode(type), value: payload.readUInt32LE(0) };
      if (message.type === 'P') this.emit('started');
      if (!this.#waiting?.types.includes(message.type)) return;
      const { resolve } = this.#waiting;
      this.#waiting = undefined;
      resolve(message);
    });
    framed(this.#output, (stream, bytes) => this.emit('output', stream as 1 | 2, bytes));
    const end = () => {
      if (this.#gone) return;
      this.#gone = true;
      this.#waiting?.reject(this.#failure());
      this.emit('gone');
    };
    this.#qemu.on('error', (error) => {
      keep(Buffer.from(error.message));
      end();
    });
    this.#qemu.on('close', end);
  }

  get gone(): boolean {
    return this.#gone;
  }

  #failure(): GuestGone {
    return new GuestGone(this.#qemuErrors.trim());
  }

  #expect(types: string): Promise<Message> {
    if (this.#gone) return Promise.reject(this.#failure());
    return new Promise((resolve, reject) => {
      this.#waiting = { types, resolve, reject };
    });
  }

  #tell(type: string, payload: Buffer): void {
    this.#control.write(Buffer.concat([Buffer.from(type), uint32(payload.length), payload]));
  }

  /** The agent is there. */
  async ready(): Promise<void> {
    await this.#expect('H');
  }

  /** Runs a program to its end. One at a time. */
  async run({ argv, env, cwd, input, window = [24, 80] }: Program): Promise<Ending> {
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const strings = [input, ...window, cwd, variables.length, ...variables, argv.length, ...argv];
    const ending = this.#expect('XE');
    this.#tell('R', Buffer.from(strings.map((string) => `${string}\0`).join('')));
    const { type, value } = await ending;
    if (type === 'E') return { code: value === constants.errno.ENOENT ? 127 : 126, error: value };
    const signal = value & 0x7f;
    return { code: signal ? 128 + signal : (value >> 8) & 0xff };
  }

  kill(signal: number): void {
    this.#tell('K', uint32(signal));
  }

  /** Nobody reads this output any more: the program hears it from the kernel when it writes. */
  close(stream: 1 | 2): void {
    this.#tell('C', uint32(stream));
  }

  resize(rows: number, columns: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt16LE(rows);
    payload.writeUInt16LE(columns, 2);
    this.#tell('W', payload);
  }

  /** Bytes for the program's standard input, none for its end. False: wait for drain(). */
  feed(bytes?: Buffer): boolean {
    let more = true;
    const all = bytes ?? Buffer.alloc(0);
    for (let at = 0; at === 0 || at < all.length; at += 0x10000) {
      const part = all.subarray(at, at + 0x10000);
      more = this.#input.write(Buffer.concat([uint32(part.length), part]));
    }
    return more;
  }

  drain(then: () => void): void {
    this.#input.once('drain', then);
  }

  /** Stops and continues the flow of output, all the way to the program. */
  hold(on: boolean): void {
    if (on) this.#output.pause();
    else this.#output.resume();
  }

  /** Ends what is left running, waits for the kernel's last word, and returns its taint mask. */
  async quiet(): Promise<number> {
    const said = this.#expect('Q');
    this.#tell('Q', Buffer.alloc(0));
    const { value } = await said;
    const mark = `dmabuf-guest: end ${process.hrtime.bigint()}`;
    const seen = new Promise<void>((resolve, reject) => {
      this.on('console', (line) => line.includes(mark) && resolve());
      this.on('gone', () => reject(this.#failure()));
    });
    this.#tell('M', Buffer.from(`${mark}\n`));
    await seen;
    return value;
  }

  /** One command of QEMU's monitor. @throws Error with the monitor's reason */
  async command(execute: string, args: object = {}): Promise<void> {
    if (this.#gone) throw this.#failure();
    const answer = new Promise<void>((resolve, reject) => {
      eachLine(this.#monitor, (line) => {
        const message = JSON.parse(line);
        if (message.id !== execute) return;
        if (message.error) reject(new Error(message.error.desc));
        else resolve();
      });
      this.on('gone', () => reject(this.#failure()));
    });
    this.#monitor.write('{"execute":"qmp_capabilities"}\n');
    this.#monitor.write(`${JSON.stringify({ execute, arguments: args, id: execute })}\n`);
    await answer;
  }

  /** Ends QEMU, at once. */
  async stop(): Promise<void> {
    this.#qemu.kill('SIGKILL');
    if (!this.#gone) await once(this, 'gone');
  }

  /** QEMU ends by itself: waits for that, but not for long. */
  async stopped(milliseconds: number): Promise<void> {
    if (this.#gone) return;
    await Promise.race([once(this, 'gone'), new Promise((resolve) => setTimeout(resolve, milliseconds).unref())]);
    await this.stop();
  }
}

interface Message {
  type: string;
  value: number;
}

/** Messages of a byte, a length and that many bytes. */
function framed(socket: Socket, each: (head: number, payload: Buffer) => void): void {
  const HEAD = 5;
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (data: Buffer) => {
    rest = rest.length ? Buffer.concat([rest, data]) : data;
    for (;;) {
      if (rest.length < HEAD) return;
      const end = HEAD + rest.readUInt32LE(1);
      if (rest.length < end) return;
      each(rest[0] as number, rest.subarray(HEAD, end));
      rest = rest.subarray(end);
    }
  });
}
