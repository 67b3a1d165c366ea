// SPDX-License-Identifier: MIT
/** A process that makes the system calls a test spells out (c/syscalls.c). */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { getSystemErrorName } from 'node:util';
import { fdsOf, program, skipWithout } from './support.ts';

/** From the kernel's headers; the same on every architecture here. */
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_CLOEXEC = 0o2000000;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_ANONYMOUS = 0x20;
export const SEEK_SET = 0;
export const SEEK_END = 2;
export const POLLIN = 1;
export const POLLOUT = 4;

/** What a call answered. */
export interface Answer {
  /** -1 where it failed */
  result: number;
  /** such as `'EINVAL'`, or `''` */
  code: string;
  /** what the call wrote back */
  bytes: Buffer;
}

interface Server {
  child: ChildProcess;
  answers: AsyncIterator<string>;
}

/** One for all tests: a session costs it a fork, where node would need a new process. */
function serve(path: string): Server {
  const child = spawn(path, { stdio: ['pipe', 'pipe', 'inherit'] });
  const { stdin, stdout } = child;
  assert(stdin !== null && stdout !== null);
  // Waits for nobody: its input ends with us.
  for (const each of [child, stdin, stdout] as { unref?: () => void }[]) each.unref?.();
  return { child, answers: createInterface({ input: stdout })[Symbol.asyncIterator]() };
}

const { path, missing } = program('syscalls');
const server = missing === undefined ? serve(path) : undefined;

/** One process, which ends with the scope it is declared in. */
export class Syscalls implements AsyncDisposable {
  /** 0 once it has ended */
  pid = 0;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Starts one, or skips the test where the program was not built. */
  static async start(context: Mocha.Context): Promise<Syscalls> {
    skipWithout(missing, context);
    assert(server);
    const process = new Syscalls(server);
    process.pid = await process.must('session');
    return process;
  }

  /** How many descriptors it has open. */
  get fds(): number {
    return fdsOf(this.pid);
  }

  async call(name: string, ...words: (string | number | Uint8Array)[]): Promise<Answer> {
    const text = words.map((word) => (word instanceof Uint8Array ? Buffer.from(word).toString('hex') : word));
    this.#server.child.stdin?.write(`${[name, ...text].join(' ')}\n`);
    const { value, done } = await this.#server.answers.next();
    assert(!done, `the process has ended at ${name}`);
    const [result, errno, hex] = (value as string).split(' ');
    return {
      result: Number(result),
      code: errno === '0' ? '' : getSystemErrorName(-Number(errno)),
      bytes: Buffer.from(hex ?? '', 'hex'),
    };
  }

  /** The same, of a call that must go well: its result. */
  async must(name: string, ...words: (string | number | Uint8Array)[]): Promise<number> {
    const { result, code } = await this.call(name, ...words);
    assert.equal(code, '', `${name} ${words.join(' ')}`);
    // addresses above 2 GiB of a 32-bit process
    return result < 0 ? result + 2 ** 32 : result;
  }

  /** The same, of a call that must fail. */
  async fails(expected: string, name: string, ...words: (string | number | Uint8Array)[]): Promise<void> {
    const { code, result } = await this.call(name, ...words);
    assert.equal(code, expected, `${name} ${words.join(' ')} answered ${result}`);
  }

  /** Its number of a descriptor of this process. */
  async take(fd: number): Promise<number> {
    return this.must('take', process.pid, fd);
  }

  /** Maps shared, reading and writing unless said otherwise: the address. */
  async map(fd: number, length: number, prot = PROT_READ | PROT_WRITE, offset = 0): Promise<number> {
    return this.must('mmap', length, prot, MAP_SHARED, fd, offset);
  }

  async peek(address: number, length: number): Promise<Buffer> {
    const { code, bytes } = await this.call('peek', address, length);
    assert.equal(code, '', `reading at ${address.toString(16)}`);
    return bytes;
  }

  /** Settled when the process is gone, and all it had. */
  async end(): Promise<void> {
    if (this.pid === 0) return;
    this.pid = 0;
    await this.call('end');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}
