// SPDX-License-Identifier: MIT
// npm run test:matrix: the tests of the guest on every combination of kernel, architecture and programs.
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { type Combination, combinations, standard, turn } from './combinations.ts';
import { EXIT_FAILED, Failure, told } from './failure.ts';
import {
  BOARD,
  beginningWith,
  boardOptions,
  EDUS,
  FEWER_ROUNDS,
  type GuestTests,
  guestTests,
  hasBoard,
  noTestRan,
  prepareBoard,
  prepareGuestTests,
  type Result,
  requireFiles,
  resultOf,
  testFiles,
} from './guest-tests.ts';
import { requirePackages } from './host.ts';
import { toolsFor } from './machines.ts';
import { say } from './progress.ts';
import { projectRoot } from './project.ts';
import { run, runMain, start, stopLate, stopping } from './run.ts';

const usage = `usage: npm run test:matrix [-- OPTION…]

Runs the tests of the guest on every combination of kernel, architecture and programs, two guests at a time.

  --only PATTERN   the one of that name, else those whose name holds PATTERN, or matches it whole where it has a *;
                   may be repeated
  --file NAME      only test files whose name begins with NAME; may be repeated
  --grep TEXT      only tests whose title holds TEXT
  --turn N         what a run with little time tries after npm test, which is ${standard}: one for arm64, and one
                   of the rest, others for each N, and fewer rounds of what is done often
  --json           the results as JSON on standard output (npm run --silent says nothing else there)
  --logs DIR       where the output of each goes, as NAME.log (default out/matrix)
  --list           the names of the combinations
  --help           this

exit codes: 0 all passed, 1 something failed, ${EXIT_FAILED} it could not be tried, 128+n a signal ended it.
`;

/** A guest keeps one core busy. */
const TOGETHER = 2;
/** Kernels and programs may have to be fetched and built first, a lab kernel takes longest. */
const GUEST_MS = 45 * 60_000;

interface Row extends Result {
  name: string;
  /** Without the work of the first time. */
  seconds: number;
  /** What repeats it. */
  command: string;
  log: string;
}

const options = {
  only: { type: 'string', multiple: true },
  file: { type: 'string', multiple: true },
  grep: { type: 'string' },
  turn: { type: 'string' },
  json: { type: 'boolean' },
  logs: { type: 'string' },
  list: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

function parse() {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    throw new Failure(
      `${(error as Error).message.split(/\.\s/)[0]}. npm run test:matrix -- --help shows what there is.`,
    );
  }
}

function matches(name: string, pattern: string): boolean {
  // A name means itself, although others begin with it.
  if (combinations.some((one) => one.name === pattern)) return name === pattern;
  if (!pattern.includes('*')) return name.includes(pattern);
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
}

function choose({ only, turn: number }: ReturnType<typeof parse>): Combination[] {
  if (number !== undefined) {
    if (only) throw new Failure('--turn and --only: one of them');
    if (!/^\d{1,9}$/.test(number)) throw new Failure(`--turn ${number}: a whole number`);
    return turn(Number(number));
  }
  if (!only) return combinations;
  for (const pattern of only) {
    if (pattern === '') throw new Failure('--only: part of a name is expected');
    if (!combinations.some(({ name }) => matches(name, pattern))) {
      throw new Failure(`--only ${pattern}: there is ${combinations.map(({ name }) => name).join(', ')}`);
    }
  }
  return combinations.filter(({ name }) => only.some((pattern) => matches(name, pattern)));
}

const quoted = (word: string) => (/^[\w./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** Which of the tests are wanted. */
interface Wanted {
  files: string[] | undefined;
  grep: string | undefined;
  /** Of what is done often. */
  fewer: boolean;
}

function repeating(name: string, { files = [], grep }: Wanted): string {
  const which = [
    ...files.map((file) => `--file ${quoted(file)}`),
    ...(grep === undefined ? [] : [`--grep=${quoted(grep)}`]),
  ];
  return ['npm run test:matrix -- --only', name, ...which].join(' ');
}

interface Guest {
  prepare(directory: string): Promise<unknown>;
  tests(directory: string): Promise<GuestTests>;
}

/** The guests of a combination, one after the other. */
function guestsOf({ machine, options }: Combination, { files, fewer }: Wanted): Guest[] {
  const env = fewer ? FEWER_ROUNDS : {};
  const usual: Guest = {
    prepare: (directory) => prepareGuestTests(directory, machine.userland),
    tests: async () => ({
      options: [...options, ...EDUS],
      env,
      files: await testFiles('test/guest', beginningWith(files)),
    }),
  };
  const board: Guest = {
    prepare: prepareBoard,
    tests: async (directory) => ({
      options: [...options, ...boardOptions(directory)],
      files: await testFiles(BOARD.folder, beginningWith(files)),
    }),
  };
  return hasBoard(machine.architecture) ? [usual, board] : [usual];
}

/** What a guest's tests came to, and for how many seconds they ran. */
async function tryGuest(
  guest: Guest,
  log: Writable,
  grep: string | undefined,
): Promise<(Result & { seconds: number }) | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'dmabuf-matrix-'));
  try {
    await guest.prepare(directory);
    const mocha = grep === undefined ? [] : [`--fgrep=${grep}`];
    const tests = await guest.tests(directory);
    if (tests.files.length === 0) return undefined;
    const argv = guestTests(directory, { ...tests, mocha });
    const [program, ...args] = argv as [string, ...string[]];
    const child = start(program, args, { cwd: projectRoot, stdio: ['ignore', 'pipe', 'pipe'] });
    let began: number | undefined;
    child.stdout?.on('data', (data) => {
      began ??= Date.now();
      log.write(data);
    });
    child.stderr?.on('data', (data) => log.write(data));
    const late = setTimeout(() => {
      log.write(`not done after ${GUEST_MS / 60_000} minutes\n`);
      stopLate(child);
    }, GUEST_MS);
    const [code] = await once(child, 'close').finally(() => clearTimeout(late));
    const seconds = began === undefined ? 0 : Math.round((Date.now() - began) / 1000);
    return { seconds, ...(await resultOf(directory, code)) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function tryOne(combination: Combination, logs: string, wanted: Wanted): Promise<Row> {
  const { name } = combination;
  const log = createWriteStream(join(logs, `${name}.log`));
  const row: Row = {
    name,
    ...{ passed: 0, failed: 0, skipped: 0, failures: [] },
    seconds: 0,
    command: repeating(name, wanted),
    log: relative(process.cwd(), String(log.path)),
  };
  let lost: Error | undefined;
  log.on('error', (error) => {
    lost ??= error;
  });
  const results: (Result & { seconds: number })[] = [];
  try {
    for (const guest of guestsOf(combination, wanted)) {
      const result = stopping() ? undefined : await tryGuest(guest, log, wanted.grep);
      if (result) results.push(result);
      if (lost) throw lost;
    }
    if (results.length === 0 && !stopping()) throw new Failure('no test of these files is for it');
  } catch (error) {
    log.write(`${told(error)}\n`);
    row.failed++;
    row.failures.push({ title: told(error), message: '' });
  }
  // The tests that are wanted may be those of one guest only.
  const ran = wanted.grep === undefined ? results : results.filter((result) => !noTestRan(result));
  for (const result of ran.length > 0 ? ran : results.slice(0, 1)) {
    for (const key of ['passed', 'failed', 'skipped', 'seconds'] as const) row[key] += result[key];
    row.failures.push(...result.failures);
  }
  log.end();
  return row;
}

function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => (row[i] ?? '').length)));
  return rows
    .map((row) =>
      row.map((cell, i) => (i < 1 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number))).join('  '),
    )
    .join('\n');
}

function show(rows: Row[], wanted: Wanted): void {
  const cells = rows.map(({ name, passed, failed, skipped, seconds }) => [
    `${failed === 0 ? '✓' : '✗'} ${name}`,
    ...[passed, failed, skipped, seconds].map(String),
  ]);
  console.log(`\n${table([['  combination', 'passed', 'failed', 'skipped', 'seconds'], ...cells])}\n`);
  for (const { name, failures, log, command } of rows) {
    for (const { title, message, grep } of failures) {
      const [first = ''] = message.split('\n');
      const again = grep === undefined ? command : repeating(name, { ...wanted, grep });
      console.log(`${name}: ${title}${first && `: ${first}`} (${log}); again: ${again}`);
    }
  }
}

async function main(): Promise<number> {
  const values = parse();
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const chosen = choose(values);
  if (values.list) {
    const names = chosen.map(({ name }) => name);
    console.log(values.json ? JSON.stringify(names) : names.join('\n'));
    return 0;
  }
  if (values.grep === '') throw new Failure('--grep: part of a title is expected');
  const wanted = { files: values.file, grep: values.grep, fewer: values.turn !== undefined };
  await requireFiles(values.file);
  const logs = resolve(values.logs ?? join(projectRoot, 'out/matrix'));
  await requirePackages([...new Set([...chosen.flatMap(({ machine }) => toolsFor(machine)), 'device-tree-compiler'])]);
  // Not fs.mkdir: its recursive form never ends below /proc.
  await run('mkdir', ['-p', logs], { purpose: `--logs ${logs}: making it` });
  say(`trying ${chosen.map(({ name }) => name).join(', ')}`);
  const rows = new Map<Combination, Row>();
  const waiting = [...chosen];
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined && !stopping(); next = waiting.shift()) {
      say(`… ${next.name}`);
      const row = await tryOne(next, logs, wanted);
      if (stopping()) return;
      rows.set(next, row);
      const done = `${rows.size} of ${chosen.length}`;
      say(
        `${row.failed ? '✗' : '✓'} ${next.name}: ${row.passed} passed, ${row.failed} failed, ${row.skipped} skipped (${done})`,
      );
    }
  };
  await Promise.all(Array.from({ length: TOGETHER }, worker));
  // All of them, but for those a Ctrl-C left untried.
  const results = chosen.flatMap((one) => rows.get(one) ?? []);
  const untried = chosen.filter((one) => !rows.has(one)).map(({ name }) => name);
  if (untried.length > 0) say(`not tried to the end: ${untried.join(', ')}`);
  const sum = (name: 'passed' | 'failed' | 'skipped') => results.reduce((total, row) => total + row[name], 0);
  const { DMABUF_TEST_RESULT } = process.env;
  if (DMABUF_TEST_RESULT) {
    const failures = results.flatMap((row) =>
      row.failures.map(({ title, message }) => ({ title: `${row.name}: ${title}`, message })),
    );
    const counts = { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped') };
    await writeFile(DMABUF_TEST_RESULT, JSON.stringify({ ...counts, failures }));
  }
  if (values.json) {
    console.log(JSON.stringify({ results, untried }, null, 2));
  } else {
    show(results, wanted);
    console.log(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`);
  }
  return sum('failed') === 0 ? 0 : 1;
}

runMain('matrix', main);
