// SPDX-License-Identifier: MIT
// Programs this machine runs for us.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { EXIT_FAILED, Failure, told } from './failure.ts';
import { say } from './progress.ts';

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** What the program is to do, for the message when it fails. */
  purpose: string;
  /** Called with every line on this descriptor, 3 or higher. */
  lines?: { fd: number; each: (line: string) => void };
}

const children = new Set<ChildProcess>();
let stopped = false;

/**
 * Starts a program that stopAll() ends, with everything it started itself.
 * @throws Failure after stopAll()
 */
export function start(command: string, args: string[], options: SpawnOptions): ChildProcess {
  if (stopped) throw new Failure('stopped');
  // A process group of its own, except for sudo: that asks at our terminal.
  const child = spawn(command, args, { ...options, detached: command !== 'sudo' });
  children.add(child);
  child.on('close', () => children.delete(child));
  return child;
}

/**
 * Runs a program to its end and returns its standard output.
 * @throws Failure with the last lines it printed, if it cannot be started or does not exit with 0
 */
export async function run(command: string, args: string[], options: RunOptions): Promise<string> {
  const stdio: SpawnOptions['stdio'] = ['ignore', 'pipe', 'pipe'];
  if (options.lines) stdio[options.lines.fd] = 'pipe';
  const child = start(command, args, { cwd: options.cwd, env: options.env ?? process.env, stdio });
  let out = '';
  let all = '';
  child.stdout?.setEncoding('utf8').on('data', (data: string) => {
    out += data;
    all += data;
  });
  child.stderr?.setEncoding('utf8').on('data', (data: string) => {
    all += data;
  });
  if (options.lines) eachLine(child.stdio[options.lines.fd] as NodeJS.ReadableStream, options.lines.each);
  const ended = await new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) =>
      resolve(code === 0 ? undefined : signal ? `ended by ${signal}` : `exit code ${code}`),
    );
  });
  if (ended === undefined) return out;
  const last = all.trimEnd().split('\n').slice(-20).join('\n');
  throw new Failure(`${options.purpose} failed (${command}: ${ended})${last && `\n${last}`}`);
}

/** Ends a program of start(), with everything it started itself. */
export function stop({ pid, spawnfile }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(spawnfile === 'sudo' ? pid : -pid, signal);
  } catch {
    // It has just ended, or is root's, which Ctrl-C reaches.
  }
}

/** Ends every program started here and starts no more; for the way out on a signal. */
export function stopAll(): void {
  stopped = true;
  for (const child of children) stop(child, 'SIGTERM');
}

/** Whether stopAll() was called: what fails now fails because of it. */
export const stopping = () => stopped;

let endedBy: 'SIGINT' | 'SIGTERM' | 'SIGHUP' | undefined;

/** From now on a signal ends all that start() has started, and nobody minds if our output is read no more. */
export function endOnSignals(who: string): void {
  for (const to of [process.stdout, process.stderr]) to.on('error', () => {});
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      say(`${who}: stopped by ${signal}`);
      endedBy ??= signal;
      stopAll();
    });
  }
}

/** This exit code, or what a shell makes of the signal that ended us. */
export const exitCode = (code: number) => (endedBy === undefined ? code : 128 + constants.signals[endedBy]);

/** Runs the whole of a script: its exit code is what `main` says, or {@link EXIT_FAILED} with what it throws. */
export function runMain(who: string, main: () => Promise<number>): void {
  endOnSignals(who);
  // Should nothing be left to wait for before main() ended.
  process.exitCode = EXIT_FAILED;
  main().then(
    (code) => {
      process.exitCode = exitCode(code);
    },
    (error) => {
      if (!stopping()) say(`${who}: ${told(error)}`);
      process.exitCode = exitCode(EXIT_FAILED);
    },
  );
}

/** Ends a program that takes too long: first so that it can clear up after itself. */
export function stopLate(child: ChildProcess): void {
  stop(child, 'SIGTERM');
  setTimeout(() => stop(child, 'SIGKILL'), 30_000).unref();
}

export function eachLine(stream: NodeJS.ReadableStream, each: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (data: string) => {
    const lines = (rest + data).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) each(line);
  });
  stream.on('end', () => rest && each(rest));
}
