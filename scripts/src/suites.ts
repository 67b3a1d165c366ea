// SPDX-License-Identifier: MIT
// Suites of tests: two of them at a time, the output of each in one piece.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { told } from './failure.ts';
import { type Counts, type Result, resultOf, testFiles } from './guest-tests.ts';
import { say } from './progress.ts';
import { projectRoot } from './project.ts';
import { start, stopLate, stopping } from './run.ts';

export interface Suite {
  name: string;
  title: string;
  folder: string;
  files: RegExp;
  /** Several times what it takes; 45 if nothing else is said. */
  minutes?: number;
  /** What the command finds in its directory besides. */
  prepare?(directory: string): Promise<unknown>;
  /** The command that runs these files and leaves the counts in a directory, as result.json. */
  command(files: string[], directory: string): { argv: string[]; env?: NodeJS.ProcessEnv };
  /** Looks at what else the command left there, and adds to its counts. */
  harvest?(directory: string, result: Result): Promise<void>;
}

/** A guest keeps one core busy. */
const TOGETHER = 2;

/** Runs one suite; its output is kept until `turn`. Without an answer it was stopped before its end. */
async function runSuite(suite: Suite, turn: Promise<void>): Promise<Counts | undefined> {
  const { minutes = 45 } = suite;
  const tell = (line: string) => void turn.then(() => say(`tests ${suite.title}: ${line}`));
  let kept: Buffer[] | undefined = [];
  void turn.then(() => {
    if (stopping()) return;
    console.log(`\n=== tests ${suite.title} ===`);
    for (const data of kept ?? []) process.stdout.write(data);
    kept = undefined;
  });
  let directory: string | undefined;
  const result: Result = { passed: 0, failed: 0, skipped: 0, failures: [] };
  try {
    directory = await mkdtemp(join(tmpdir(), 'dmabuf-test-'));
    await suite.prepare?.(directory);
    const { argv, env } = suite.command(await testFiles(suite.folder, suite.files), directory);
    const [program, ...args] = argv as [string, ...string[]];
    const child = start(program, args, {
      cwd: projectRoot,
      // What a test that is killed leaves in it goes with the directory.
      env: { ...process.env, TMPDIR: directory, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const show = (data: Buffer) => (kept ? kept.push(data) : process.stdout.write(data));
    child.stdout?.on('data', show);
    child.stderr?.on('data', show);
    // A failed test may have left something running that its suite waits for.
    const late = setTimeout(() => {
      tell(`not done after ${minutes} minutes`);
      stopLate(child);
    }, minutes * 60_000);
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    }).finally(() => clearTimeout(late));
    Object.assign(result, await resultOf(directory, code));
    if (!stopping()) await suite.harvest?.(directory, result);
  } catch (error) {
    result.failed++;
    result.failures.push({ title: told(error), message: '' });
  }
  if (directory !== undefined)
    await rm(directory, { recursive: true, force: true }).catch((error) => tell(told(error)));
  if (stopping()) return undefined;
  for (const { title } of result.failures) tell(`failed: ${title}`);
  return result;
}

/** Runs suites, shows what they say in the order given, and counts their tests. */
export async function runSuites(suites: Suite[]): Promise<Counts> {
  const counts = new Map<Suite, Counts>();
  const waiting = [...suites];
  let shown = Promise.resolve();
  const worker = async () => {
    for (let suite = waiting.shift(); suite !== undefined && !stopping(); suite = waiting.shift()) {
      const before = shown;
      const running = runSuite(suite, before);
      shown = Promise.all([before, running]).then(() => {});
      const result = await running;
      if (result) counts.set(suite, result);
    }
  };
  await Promise.all(Array.from({ length: TOGETHER }, worker));
  await shown;
  const untried = suites.filter((suite) => !counts.has(suite)).map(({ name }) => name);
  if (untried.length > 0) say(`not run to the end: ${untried.join(', ')}`);
  return total([...counts.values()]);
}

export function total(all: Counts[]): Counts {
  const sum = (name: keyof Counts) => all.reduce((before, counts) => before + counts[name], 0);
  return { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped') };
}

export const counted = ({ passed, failed, skipped }: Counts) =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`;
