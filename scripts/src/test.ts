// SPDX-License-Identifier: MIT
// npm test: the tests on this machine, those of the guest script, and those that run in a guest against the
// modules. One line at the end counts all of them. npm test -- NAME… runs some of them; npm run test:all adds
// "more", those that take long or need a network, and the whole matrix.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildHere } from './build-here.ts';
import { type Combination, combinations, standard } from './combinations.ts';
import { EXIT_FAILED, Failure, told } from './failure.ts';
import { type Counts, guestTests, prepareGuestTests, reporter, resultOf, SHORT, testFiles } from './guest-tests.ts';
import { requirePackages } from './host.ts';
import { toolsFor } from './machines.ts';
import { say } from './progress.ts';
import { projectRoot } from './project.ts';
import { endOnSignals, exitCode, start, stopLate } from './run.ts';

interface Suite {
  name: string;
  title: string;
  folder: string;
  files: RegExp;
  /** Several times what it takes; 15 if nothing else is said. */
  minutes?: number;
  /** What the command finds in its directory besides. */
  prepare?(directory: string): Promise<unknown>;
  /** The command that runs these files and leaves the counts in a directory, as result.json. */
  command(files: string[], directory: string): { argv: string[]; env?: NodeJS.ProcessEnv };
}

const here: Suite['command'] = (files, directory) => ({
  argv: ['node_modules/.bin/mocha', ...reporter, ...files],
  env: { DMABUF_TEST_RESULT: join(directory, 'result.json') },
});

const guest = combinations.find(({ name }) => name === standard) as Combination;

/** In this order they are shown. */
const suites: Suite[] = [
  { name: 'unit', title: 'on this machine', folder: 'test/unit', files: SHORT, command: here },
  { name: 'lab', title: 'of the guest script', folder: 'test/lab', files: SHORT, command: here },
  {
    name: 'guest',
    title: 'in the guest, against the modules',
    folder: 'test/guest',
    files: SHORT,
    prepare: (directory) => prepareGuestTests(directory, guest.machine.userland),
    command: (files, directory) => ({ argv: guestTests(directory, guest.options, files) }),
  },
  {
    name: 'more',
    title: 'that take longer',
    folder: 'test/lab',
    files: /\.more\.test\.ts$/,
    minutes: 45,
    command: here,
  },
  {
    name: 'matrix',
    title: 'in every guest there is',
    folder: 'test/guest',
    files: SHORT,
    minutes: 180,
    command: (_, directory) => ({
      argv: ['scripts/test-matrix'],
      env: { DMABUF_TEST_RESULT: join(directory, 'result.json') },
    }),
  },
];
const BY_DEFAULT = ['unit', 'lab', 'guest'];
/** A guest keeps one core busy: two at a time. */
const TOGETHER = [['unit'], ['lab', 'guest'], ['more'], ['matrix']];

/** Runs one suite; its output is kept while another one is shown. */
async function runSuite(suite: Suite, shown: Promise<void>): Promise<Counts> {
  const { minutes = 15 } = suite;
  const directory = await mkdtemp(join(tmpdir(), 'dmabuf-test-'));
  try {
    await suite.prepare?.(directory);
    const { argv, env } = suite.command(await testFiles(suite.folder, suite.files), directory);
    const [program, ...args] = argv as [string, ...string[]];
    const child = start(program, args, {
      cwd: projectRoot,
      // What a test that is killed leaves in it goes with the directory.
      env: { ...process.env, TMPDIR: directory, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let kept: Buffer[] | undefined = [];
    const show = (data: Buffer) => (kept ? kept.push(data) : process.stdout.write(data));
    child.stdout?.on('data', show);
    child.stderr?.on('data', show);
    void shown.then(() => {
      console.log(`\n=== tests ${suite.title} ===`);
      for (const data of kept ?? []) process.stdout.write(data);
      kept = undefined;
    });
    // A failed test may have left something running that its suite waits for.
    const late = setTimeout(() => {
      say(`tests ${suite.title}: not done after ${minutes} minutes`);
      stopLate(child);
    }, minutes * 60_000);
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    }).finally(() => clearTimeout(late));
    await shown;
    const counts = await resultOf(directory, code);
    for (const { title } of counts.failures) say(`tests ${suite.title}: failed: ${title}`);
    return counts;
  } catch (error) {
    await shown;
    say(`tests ${suite.title}: ${told(error)}`);
    return { passed: 0, failed: 1, skipped: 0 };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  const known = suites.map(({ name }) => name);
  const unknown = args.find((name) => name !== '--all' && !known.includes(name));
  if (unknown !== undefined) throw new Failure(`npm test -- ${unknown}: there is ${known.join(', ')}`);
  const wanted = args.includes('--all') ? known : args.length > 0 ? args : BY_DEFAULT;
  const chosen = suites.filter(({ name }) => wanted.includes(name));
  await requirePackages([...toolsFor(guest.machine), 'device-tree-compiler']);
  await buildHere();
  const all: Counts[] = [];
  for (const together of TOGETHER) {
    let shown = Promise.resolve();
    const running = chosen
      .filter(({ name }) => together.includes(name))
      .map((suite) => {
        const done = runSuite(suite, shown);
        shown = done.then(() => {});
        return done;
      });
    all.push(...(await Promise.all(running)));
  }
  const sum = (name: keyof Counts) => all.reduce((total, counts) => total + counts[name], 0);
  console.log(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`);
  process.exitCode = exitCode(sum('failed') === 0 ? 0 : 1);
}

endOnSignals('tests');

main().catch((error) => {
  say(told(error));
  process.exitCode = exitCode(EXIT_FAILED);
});
