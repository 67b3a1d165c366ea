// SPDX-License-Identifier: MIT
/** Buffers as descriptors of a process: how a command gives them to the next one. @module */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { DmaBuf } from '../dmabuf.js';
import { pidfdGetFd } from '../pidfd.js';
import { CommandError } from './command-error.js';
import { integer, MAX_PID, UsageError } from './usage.js';

/** Numbers of the descriptors that are buffers. */
const VARIABLE = 'DMABUF_FDS';

/** Behind standard input, output and error. */
const FIRST_FD = 3;

const EXIT_CANNOT_RUN = 126;
const EXIT_NO_COMMAND = 127;

/** What execve(2) says of a program that is there and is none, or that cannot have what it is given. */
const CANNOT_RUN = ['EACCES', 'EPERM', 'ENOEXEC', 'ENOTDIR', 'EISDIR', 'ELOOP', 'ENAMETOOLONG', 'ETXTBSY'];

/** The exit code of a process that a signal has ended, as shells tell it. */
export const signalled = (signal: NodeJS.Signals) => 128 + constants.signals[signal];

/** A descriptor of this process, or of another. */
interface Named {
  fd: number;
  pid?: number;
}

const MAX_FD = 2 ** 31 - 1;

/** What `--fd` says: N, or PID:FD. */
function named(what: string): Named {
  const [, pid, fd] = /^([^:]*):(.*)$/.exec(what) ?? [];
  if (pid === undefined || fd === undefined) return { fd: integer('--fd', what, 0, MAX_FD) };
  return { pid: integer(`--fd ${what}: PID`, pid, 1, MAX_PID), fd: integer(`--fd ${what}: FD`, fd, 0, MAX_FD) };
}

/** The buffers that were named by `--fd`, or else those this process was started with. */
function wanted(words: readonly string[] | undefined): Named[] {
  if (words !== undefined) return words.map(named);
  const numbers = (process.env[VARIABLE] ?? '').split(',').filter((number) => number !== '');
  if (numbers.length > 0) return numbers.map((fd) => ({ fd: integer(VARIABLE, fd, 0, MAX_FD) }));
  const how =
    'run it as COMMAND of dmabuf alloc or dmabuf recv, or name by --fd an inherited descriptor, or PID:FD of a process';
  throw new UsageError(`There is no buffer: ${how}.`);
}

function open({ fd, pid }: Named): DmaBuf {
  if (pid === undefined) return DmaBuf.fromFd(fd);
  const own = pidfdGetFd(pid, fd);
  try {
    return DmaBuf.fromFd(own);
  } catch (error) {
    closeSync(own);
    const told = error as Error;
    told.message = told.message.replace(/^Descriptor \d+/, `Descriptor ${fd} of process ${pid}`);
    throw told;
  }
}

/**
 * The buffers this process was started with.
 *
 * @param words - of `--fd`
 */
export function inherited(words: readonly string[] | undefined): DmaBuf[] {
  const all = wanted(words);
  const own = all.filter(({ pid }) => pid === undefined).map(({ fd }) => fd);
  const twice = own.find((fd, index) => own.indexOf(fd) < index);
  if (twice !== undefined) throw new UsageError(`Descriptor ${twice} is named twice.`);
  const buffers: DmaBuf[] = [];
  try {
    for (const one of all) buffers.push(open(one));
    return buffers;
  } catch (error) {
    for (const buffer of buffers) buffer.close();
    throw error;
  }
}

/** The only one, or the first. */
export function inheritedOne(words: readonly string[] | undefined): DmaBuf {
  const [first, ...others] = wanted(words);
  if (words && others.length > 0) throw new UsageError('It takes one --fd only.');
  return open(first as Named);
}

/** Signals of the terminal, which COMMAND gets itself. */
const TERMINAL_SIGNALS = ['SIGINT', 'SIGQUIT'] as const;
const PASSED_ON = ['SIGTERM', 'SIGHUP'] as const;

/** Runs a COMMAND that inherits buffers; answers with its exit code. */
export async function runWith(
  buffers: readonly DmaBuf[],
  [program, ...args]: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<number> {
  if (program === '') throw new CommandError("There is no command ''.", EXIT_NO_COMMAND);
  const inChild = buffers.map((_, index) => FIRST_FD + index).join(',');
  let child: ChildProcess | undefined;
  const ignore = () => {};
  const passOn = (signal: NodeJS.Signals) => void child?.kill(signal);
  // Before it runs: it would go on without this process.
  for (const signal of TERMINAL_SIGNALS) process.on(signal, ignore);
  for (const signal of PASSED_ON) process.on(signal, passOn);
  try {
    const started = spawn(program as string, args, {
      stdio: ['inherit', 'inherit', 'inherit', ...buffers.map(({ fd }) => fd)],
      env: { ...process.env, ...environment, [VARIABLE]: inChild },
    });
    child = started;
    return await new Promise<number>((resolve, reject) => {
      started.on('error', reject);
      started.on('exit', (code, signal) => resolve(signal === null ? (code ?? 0) : signalled(signal)));
    });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new CommandError(`There is no command ${program}.`, EXIT_NO_COMMAND);
    if (code === 'E2BIG') {
      const why = 'its arguments and environment, where DMABUF_VALUE is what a message says, are too long for execve()';
      throw new CommandError(`${program} cannot be run: ${why}.`, EXIT_CANNOT_RUN);
    }
    if (CANNOT_RUN.includes(code ?? '')) {
      throw new CommandError(`${program} cannot be run: ${message}`, EXIT_CANNOT_RUN);
    }
    throw error;
  } finally {
    for (const signal of TERMINAL_SIGNALS) process.off(signal, ignore);
    for (const signal of PASSED_ON) process.off(signal, passOn);
  }
}
