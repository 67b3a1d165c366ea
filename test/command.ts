// SPDX-License-Identifier: MIT
/** Runs the command `dmabuf` as a person would: as a process. */
import assert from 'node:assert/strict';
import { type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** What package.json names as the command. */
export const MAIN = fileURLToPath(new URL('../dist/command/main.js', import.meta.url));

/** Whether somebody listens on a socket: its path is there before that. */
export const isListening = (path: string) =>
  readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .some((line) => line.endsWith(` ${path}`) && / 00010000 \d+ \d+ +\d+ /.test(line));

/** Of a shell in which `d` is the command. */
export const shell = (script: string) => ['sh', '-c', 'd() { "$NODE" "$MAIN" "$@"; }; eval "$0"', script];

const environment = { ...process.env, NODE: process.execPath, MAIN };

export interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface Options {
  input?: string | Uint8Array;
  env?: NodeJS.ProcessEnv;
  /** descriptors from 3 on */
  fds?: number[];
  uid?: number;
  /** default: that of the uid */
  gid?: number;
  /** another copy of it */
  main?: string;
}

/** Runs the command to its end. */
export function dmabuf(args: readonly string[], options: Options = {}): Result {
  const { input = '', env = {}, fds = [], uid, gid = uid, main = MAIN } = options;
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [main, ...args], {
    input,
    encoding: 'utf8',
    env: { ...environment, ...env },
    stdio: ['pipe', 'pipe', 'pipe', ...fds],
    maxBuffer: 1 << 27,
    ...(uid === undefined ? {} : { uid, gid, cwd: '/' }),
  });
  assert.equal(error, undefined);
  return { status, stdout, stderr };
}

/** The same for a use of it that works, and says nothing of errors. */
export function said(args: readonly string[], options: Options = {}): string {
  const { status, stdout, stderr } = dmabuf(args, options);
  assert.equal(stderr, '');
  assert.equal(status, 0);
  return stdout;
}

/** What it says with --json. */
// biome-ignore lint/suspicious/noExplicitAny: the tests look at what it is
export function saidJson(args: readonly string[], options: Options = {}): any {
  return JSON.parse(said([...args, '--json'], options));
}

/** Runs the command beside the test. */
export class Running implements AsyncDisposable {
  readonly #child;
  readonly #lines;
  readonly #closed: Promise<unknown>;
  stderr = '';

  /** @param errors - the descriptor of a file for what it says of errors */
  constructor(args: readonly string[], options: SpawnOptions = {}, errors?: number) {
    this.#child = spawn(process.execPath, [MAIN, ...args], {
      ...{ env: environment, ...options },
      stdio: ['pipe', 'pipe', errors ?? 'pipe'],
    });
    this.#closed = once(this.#child, 'close');
    this.#lines = createInterface(this.#child.stdout as Readable)[Symbol.asyncIterator]();
    this.#child.stderr?.on('data', (data) => {
      this.stderr += data;
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** The next line of its output. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    assert(!done, this.stderr);
    return value;
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Its exit code, or the signal that has ended it. */
  async end(): Promise<number | NodeJS.Signals> {
    await this.#closed;
    return (this.#child.exitCode ?? this.#child.signalCode) as number | NodeJS.Signals;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    // What it has left running may hold them open.
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.destroy();
    await this.#closed;
  }
}

/** One of the doctor's checks. */
export interface Check {
  subject: string;
  name: string;
  verdict: string;
  found: string;
  cure?: string;
}

/** What the doctor finds, by what it has looked at; checks that its exit code and its verdict are right. */
export function examined(args: readonly string[] = [], options: Options = {}): Map<string, Check> {
  const { status, stdout, stderr } = dmabuf(['doctor', ...args, '--json'], options);
  assert.equal(stderr, '');
  const { verdict, checks } = JSON.parse(stdout) as { verdict: string; checks: Check[] };
  const worst = ['bad', 'warn', 'ok'].find((one) => checks.some((check) => check.verdict === one));
  assert.equal(verdict, worst);
  assert.equal(status, worst === 'bad' ? 1 : 0);
  for (const { name, verdict, cure } of checks) {
    if (verdict === 'ok') assert.equal(cure, undefined, name);
    else assert.match(cure ?? '', /^[A-Z].*[.\w]$/, name);
  }
  const byName = new Map(checks.map((check) => [check.name, check]));
  assert.equal(byName.size, checks.length);
  return byName;
}
