#!/usr/bin/env node
// SPDX-License-Identifier: MIT
/** The command `dmabuf`. What needs the addon is loaded when it is asked for: help and the doctor do without. @module */
import { readFileSync } from 'node:fs';
import { CommandError } from './command-error.js';
import { json, print, printable } from './print.js';
import { type Args, helpOf, isName, type Name, overview, parse, UsageError, usages } from './usage.js';

/** Something failed, or the doctor found something bad. */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
/** A COMMAND was not run; what GNU env, timeout and docker use. */
const EXIT_NOT_RUN = 125;

/** Each answers with the exit code. */
const subcommands: { [N in Name]: () => Promise<{ run(args: Args<N>): Promise<number> }> } = {
  heaps: () => import('./heaps.js'),
  alloc: () => import('./alloc.js'),
  ps: () => import('./ps.js'),
  doctor: () => import('./doctor.js'),
  send: () => import('./send.js'),
  recv: () => import('./recv.js'),
  dump: () => import('./dump.js'),
  fill: () => import('./fill.js'),
};

async function runSubcommand<N extends Name>(name: N, words: string[]): Promise<number> {
  const args = parse(name, words);
  if (args.values.help) {
    await print(helpOf(name));
    return 0;
  }
  const { run } = await subcommands[name]();
  return run(args);
}

function version(): string {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
}

async function main([first, ...words]: string[]): Promise<number> {
  if (first === undefined) throw new UsageError(`A SUBCOMMAND is missing.\n\n${overview.trimEnd()}`);
  if (first === '--version') {
    await print(`${version()}\n`);
    return 0;
  }
  if (['help', '--help', '-h'].includes(first) && words.length === 0) {
    await print(overview);
    return 0;
  }
  const [name, ...rest] = first === 'help' ? [words[0] as string, ...words.slice(1), '--help'] : [first, ...words];
  if (!isName(name)) throw new UsageError(`There is no ${name}: dmabuf --help lists what there is.`);
  return runSubcommand(name, rest);
}

/** What is wrong with arguments is told by the library with these. */
const USAGE_CODES = ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE'];

function exitCode(error: unknown, runs: boolean): number {
  if (error instanceof CommandError && error.exitCode !== undefined) return error.exitCode;
  if (runs) return EXIT_NOT_RUN;
  const { code } = error as NodeJS.ErrnoException;
  return error instanceof UsageError || USAGE_CODES.includes(code ?? '') ? EXIT_USAGE : EXIT_FAILED;
}

/** The sentence of an error, and where it came from only if that is a mistake of ours. */
function told(error: unknown): string {
  const { message, code, stack } = error as NodeJS.ErrnoException;
  const expected = error instanceof UsageError || error instanceof CommandError || code !== undefined;
  // The native part could not be loaded.
  return expected || (error as Error).cause !== undefined ? message : (stack ?? String(error));
}

/** The same for a terminal: names in it may be a peer's. What is about usage, or a mistake of ours, has lines. */
function shown(error: unknown): string {
  const lines = error instanceof UsageError || told(error) !== (error as Error).message;
  return lines ? told(error).split('\n').map(printable).join('\n') : printable(told(error));
}

function asJson(error: unknown): string {
  const { code, errno, syscall, path } = error as NodeJS.ErrnoException;
  return json({ error: { message: told(error), code, errno, syscall, path } });
}

const words = process.argv.slice(2);
const end = words.indexOf('--');
const own = end < 0 ? words : words.slice(0, end);
const [subcommand = ''] = own;
const runs = end >= 0 && isName(subcommand) && usages[subcommand].runs === true;

// print() has it, too; and what cannot be told still has its exit code.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

try {
  process.exitCode = await main(words);
} catch (error) {
  const { code, syscall } = error as NodeJS.ErrnoException;
  // Whoever reads what is printed has enough.
  if (code !== 'EPIPE' || syscall !== 'write') {
    process.exitCode = exitCode(error, runs);
    const name = isName(subcommand) ? `dmabuf ${subcommand}` : 'dmabuf';
    process.stderr.write(own.includes('--json') ? asJson(error) : `${name}: ${shown(error)}\n`);
  }
}
