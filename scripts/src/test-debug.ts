// SPDX-License-Identifier: MIT
// npm run test:debug: the modules on a kernel that reports its own bugs, and which of their lines ran meanwhile.

import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { buildModules, GCNO } from './build.ts';
import { buildHere } from './build-here.ts';
import { coverageOf, linesReached, report, shown, table, type Unreached } from './coverage.ts';
import { EXIT_FAILED, Failure, told } from './failure.ts';
import {
  BOARD,
  beginningWith,
  boardOptions,
  type Counts,
  EDU_GUESTS,
  EDUS,
  FEWER_ROUNDS,
  guestTests,
  hasIommu,
  noTestRan,
  prepareBoard,
  prepareGuestTests,
  reporter,
  requireFiles,
  SHORT,
  testFiles,
} from './guest-tests.ts';
import { requirePackages } from './host.ts';
import { kernelFiles } from './kernel.ts';
import { addWhatIsLeft } from './left.ts';
import { chooseMachine, kernels, type Machine, toolsFor } from './machines.ts';
import { say, step } from './progress.ts';
import { projectRoot } from './project.ts';
import { runMain, stopping } from './run.ts';
import { counted, runSuites, type Suite, total } from './suites.ts';

const KERNEL = 'debug';
/** Percent of the lines of the core and the three modules that must run. */
const LINES = 95;
const UNREACHED = 'test/debug/unreached.json';
/** More take longer than a guest may. */
const MOST_CALLS = 4_000_000;
const CALLS = '20000';
/** With little time: half of the parts, and what is short. Each half keeps two guests busy for the same time. */
const TURNS: Part[][] = [
  ['tests', 'fuzz', 'detectors'],
  ['errors', 'races', 'fuzz'],
];
/** Of the tests, those that are about the library more than about the modules. */
const LIBRARY = /^(fuzz|heaps|mappings|tour|v4l2)\b/;

/** Half of the others: every second one. */
async function halfOfTests(turn: number): Promise<RegExp> {
  const names = (await testFiles('test/guest', SHORT)).map((path) => basename(path, '.test.ts'));
  const chosen = names.filter((name) => !LIBRARY.test(name)).filter((_, i) => i % 2 === turn % 2);
  return new RegExp(`^(${chosen.join('|')})\\.test\\.ts$`);
}
/** Of two emulated processors one waits for the other most of the time, where locks are looked at so closely. */
const ONE = ['--smp', '1'];
const OUT = join(projectRoot, 'out/debug');
const COVERAGE = join(OUT, 'coverage.json');

const parts = {
  // In an order that keeps both processors busy to the end.
  tests: 'the tests every guest runs',
  errors: 'every allocation fails in turn; contiguous memory and bounce buffers run out',
  races: 'calls that meet on four processors, and modules unloaded meanwhile',
  fuzz: 'calls nobody would make, by many threads and processes',
  detectors: 'scratch copies of the modules with a mistake in each, which must be reported',
} as const;
type Part = keyof typeof parts;
const partNames = Object.keys(parts) as Part[];

/** The parts whose tests are one each, and no program that does all of them. */
const GREPPED: Part[] = ['tests', 'races', 'detectors'];
/** Of whose files some can be left out. */
const OF_FILES: Part[] = ['tests'];

const usage = `usage: npm run test:debug [-- OPTION… PART…]

Runs the kernel modules on a kernel that reports its own bugs (scripts/kernels/debug.config) and looks for what they
leave behind. At the end: which of their lines ran. Without PART: all parts. docs/kernels.md says how long they take.

${partNames.map((name) => `  ${name.padEnd(16)} ${parts[name]}`).join('\n')}

  --arch ARCH      ${Object.keys(kernels[KERNEL]?.flavour ?? {}).join(' or ')} (default armhf)
  --userland ARCH  by programs for armhf on arm64 (default the kernel's own, of errors both)
  --grep TEXT      of ${GREPPED.join(', ')}: only those whose title holds TEXT
  --file NAME      of tests: only files whose name begins with NAME; may be repeated
  --seed N         of the fuzzer and the races: the same choices again, not the same order (default 1)
  --calls N        of the fuzzer (default ${CALLS}, at most ${MOST_CALLS})
  --rounds N       of each race (default: each race's own; with fewer some calls may never meet)
  --turn N         with little time: ${TURNS[0]?.join(', ')} if N is even, ${TURNS[1]?.join(', ')} if it is odd, or the
                   parts that are named; of detectors and tests one half, the other for N + 2, and no tests that
                   are about the library more than about the modules
  --help           this

The last line counts all tests. exit codes: 0 all passed, 1 something failed, ${EXIT_FAILED} it could not be tried,
128+n a signal ended it. The coverage stays in ${relative(projectRoot, COVERAGE)}.
`;

const options = {
  arch: { type: 'string', default: 'armhf' },
  userland: { type: 'string' },
  grep: { type: 'string' },
  file: { type: 'string', multiple: true },
  seed: { type: 'string' },
  calls: { type: 'string' },
  rounds: { type: 'string' },
  turn: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;

function parse() {
  try {
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    throw new Failure(
      `${(error as Error).message.split(/\.\s/)[0]}. npm run test:debug -- --help shows what there is.`,
    );
  }
}

function number(name: string, text: string, most = 999_999_999): string {
  if (!/^[1-9]\d{0,8}$/.test(text) || Number(text) > most) {
    throw new Failure(`--${name} ${text}: a whole number from 1 to ${most}`);
  }
  return text;
}

function turnOf(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new Failure(`--turn ${text}: a whole number`);
  return Number(text);
}

/** The parts each of these is for. */
const concerns: Partial<Record<keyof typeof options, Part[]>> = {
  seed: ['fuzz', 'races'],
  calls: ['fuzz'],
  rounds: ['races'],
  turn: ['tests', 'detectors'],
  grep: GREPPED,
  file: OF_FILES,
};

/** An option for a part that is not run would be ignored. */
function refuseUnused(values: ReturnType<typeof parse>['values'], chosen: Part[], named: number): void {
  for (const name of Object.keys(concerns) as (keyof typeof concerns)[]) {
    const parts = concerns[name] ?? [];
    // Without parts that are named it chooses them.
    const chooses = name === 'turn' && named === 0;
    if (values[name] !== undefined && !chooses && !parts.some((part) => chosen.includes(part))) {
      throw new Failure(`--${name} is for ${parts.join(' and ')}, and the parts to run are: ${chosen.join(', ')}`);
    }
  }
}

interface GuestPart {
  title: string;
  folder: string;
  files: RegExp;
  /** In a guest with a board's heaps. */
  board?: boolean;
  options?: string[];
  append?: string;
  env?: Record<string, string>;
  seconds?: number;
  /** Options of it: only some of the tests are wanted. */
  mocha?: string[];
}

/** A suite that runs in a guest of its own; `kept` gets what it counted of the modules' lines. */
function inGuest(name: Part, { architecture, userland }: Machine, kept: string, part: GuestPart): Suite {
  const { seconds = 1800, options: own = [], board = false, ...tests } = part;
  return {
    name,
    title: `${part.title}, on the debug kernel${userland === architecture ? '' : `, by ${userland.name} programs`}`,
    folder: part.folder,
    files: part.files,
    minutes: Math.ceil(seconds / 60) + 30,
    prepare: (directory) => (board ? prepareBoard(directory) : prepareGuestTests(directory, userland)),
    command: (files, directory) => ({
      argv: guestTests(directory, {
        ...tests,
        options: [
          ...['--arch', architecture.name, '--userland', userland.name, '--kernel', KERNEL],
          ...(board ? boardOptions(directory) : []),
          ...own,
        ],
        files,
        under: ['test/debug/watched.sh'],
        // Each access and each allocation is looked at here.
        patience: 600_000,
        seconds,
      }),
    }),
    async harvest(directory, result) {
      // The tests that are wanted may be those of other guests.
      if (part.mocha?.length && noTestRan(result)) Object.assign(result, { failed: 0, failures: [] });
      await addWhatIsLeft(directory, result);
      // What every guest runs skips what this one has not; the others would have looked at nothing.
      if (result.skipped > 0 && name !== 'tests') {
        result.failed++;
        result.failures.push({
          title: `${result.skipped} tests were skipped: there is none to skip here`,
          message: '',
        });
      }
      // Not there where the guest died; what was left says so.
      const counts = join(directory, 'gcov');
      if (existsSync(counts)) await cp(counts, await mkdtemp(join(kept, `${name}-`)), { recursive: true });
    },
  };
}

async function suitesFor(
  values: ReturnType<typeof parse>['values'],
  machine: Machine,
  narrow: Machine,
  kept: string,
): Promise<Record<Part, Suite | Suite[]>> {
  const calls = number('calls', values.calls ?? CALLS, MOST_CALLS);
  const seed = number('seed', values.seed ?? '1');
  const mocha = values.grep === undefined ? [] : [`--fgrep=${values.grep}`];
  // Those of one turn have halves within.
  const half = values.turn === undefined ? undefined : Math.floor(turnOf(values.turn) / 2);
  const turn = half === undefined ? {} : { DMABUF_TURN: `${half}` };
  const rounds = values.rounds === undefined ? {} : { DMABUF_RACE_ROUNDS: number('rounds', values.rounds) };
  const guest = (name: Part, part: GuestPart, on = machine) => inGuest(name, on, kept, { ...part, mocha });
  const files = beginningWith(values.file);
  const tests: GuestPart[] = [
    {
      title: 'of every guest',
      folder: 'test/guest',
      files: half === undefined ? files : await halfOfTests(half),
      env: FEWER_ROUNDS,
      options: EDUS,
      seconds: 3600,
    },
    { ...BOARD, files, board: true },
    // Of a device that does DMA, not of a file.
    ...(values.file ? [] : [EDU_GUESTS.bounce, ...(hasIommu(machine.architecture) ? [EDU_GUESTS.iommu] : [])]),
  ];
  const found = await Promise.all(tests.map(({ folder, files }) => testFiles(folder, files)));
  return {
    tests: tests
      .filter((_, i) => found[i]?.length)
      .map((part) => guest('tests', { ...part, options: [...ONE, ...(part.options ?? [])] })),
    errors: [...new Set([machine, narrow])].map((on) =>
      guest(
        'errors',
        {
          title: 'of failing allocations',
          folder: 'test/debug',
          files: /^(error-paths|exhaustion)\.test\.ts$/,
          // As few bounce buffers as can be had.
          options: [...ONE, '--cma', '32'],
          append: 'swiotlb=512,force',
        },
        on,
      ),
    ),
    fuzz: guest('fuzz', {
      title: `of ${calls} random calls, seed ${seed}`,
      folder: 'test/debug',
      files: /^fuzz\.test\.ts$/,
      // With four, most of the time goes into waiting for kmemleak's lock.
      options: ['--smp', '2'],
      env: { DMABUF_FUZZ_CALLS: calls, DMABUF_FUZZ_SEED: seed },
      // Several times what they take.
      seconds: 900 + Math.ceil(Number(calls) / 50),
    }),
    races: guest('races', {
      title: 'of races',
      folder: 'test/debug',
      files: /^races\.test\.ts$/,
      options: ['--smp', '4'],
      env: { DMABUF_RACE_SEED: seed, ...rounds },
      // A scenario that hangs has to be able to say so first.
      seconds: values.rounds === undefined ? 3600 : 6 * 3600,
    }),
    detectors: {
      name: 'detectors',
      title: 'of what the debug kernel reports',
      folder: 'test/lab',
      files: /\.debug\.test\.ts$/,
      minutes: 90,
      prepare: (directory) => prepareGuestTests(directory, machine.userland),
      command: (files, directory) => ({
        argv: ['node_modules/.bin/mocha', ...reporter, ...mocha, ...files],
        env: {
          DMABUF_TEST_RESULT: join(directory, 'result.json'),
          DMABUF_DEBUG_ARCH: machine.architecture.name,
          DMABUF_DEBUG_PROGRAMS: join(directory, 'c'),
          ...turn,
        },
      }),
    },
  };
}

/**
 * Shows what ran. After all parts these are three more tests: enough lines ran, each of the others has its reason, and
 * no reason is out of date.
 */
async function coverage({ architecture }: Machine, modules: string, kept: string, whole: boolean): Promise<Counts> {
  const guests = (await readdir(kept)).map((name) => join(kept, name));
  const counts = await step('counting which lines ran', () => coverageOf(architecture, join(modules, GCNO), guests));
  const named: Unreached[] = JSON.parse(await readFile(join(projectRoot, UNREACHED), 'utf8'));
  const all = await report(counts, named);
  const text = whole ? shown(all) : table(all);
  console.log(`\n=== lines of the kernel modules that ran, on ${architecture.name} ===\n\n${text}\n`);
  await mkdir(OUT, { recursive: true });
  await writeFile(`${COVERAGE}.part`, JSON.stringify(all, null, 2));
  await rename(`${COVERAGE}.part`, COVERAGE);
  if (!whole) {
    console.log(`Which lines the other parts are for, or nobody: ${relative(projectRoot, COVERAGE)}\n`);
    return { passed: 0, failed: 0, skipped: 0 };
  }
  const unnamed = all.left.filter(({ reason }) => reason === undefined);
  const list = (lines: Omit<Unreached, 'reason'>[]) =>
    lines.map(({ file, function: name, line }) => `\n  ${file} ${name}(): ${line}`).join('');
  const failures = [
    ...(linesReached(all) < LINES ? [`less than ${LINES} % of the lines ran`] : []),
    ...(unnamed.length > 0 ? [`${UNREACHED} does not say why these did not run:${list(unnamed)}`] : []),
    ...(all.stale.length > 0 ? [`${UNREACHED} gives reasons for what ran, or is not there:${list(all.stale)}`] : []),
  ];
  for (const failure of failures) say(`coverage: failed: ${failure}`);
  return { passed: 3 - failures.length, failed: failures.length, skipped: 0 };
}

async function main(): Promise<number> {
  const { values, positionals } = parse();
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const unknown = positionals.find((name) => !partNames.includes(name as Part));
  if (unknown !== undefined) throw new Failure(`${unknown}: there is ${partNames.join(', ')}`);
  await requireFiles(values.file);
  if (values.file && values.turn !== undefined) throw new Failure('--file and --turn: a turn chooses the files');
  if (values.grep === '') throw new Failure('--grep: part of a title is expected');
  const machine = chooseMachine(values.arch, KERNEL, values.userland);
  // Programs of 32 bit have paths of their own through a kernel of 64, of which some are for errors only.
  const [, other] = machine.architecture.userlands;
  const narrow =
    other === undefined || values.userland !== undefined ? machine : chooseMachine(values.arch, KERNEL, other);
  const wanted =
    positionals.length > 0 || values.turn === undefined ? positionals : (TURNS[turnOf(values.turn) % 2] as Part[]);
  const able = values.file ? OF_FILES : values.grep === undefined ? partNames : GREPPED;
  const chosen = (wanted.length > 0 ? partNames : able).filter((name) => wanted.length === 0 || wanted.includes(name));
  const unable = chosen.find((name) => !able.includes(name));
  if (unable !== undefined) {
    throw new Failure(`--${values.file ? 'file' : 'grep'} is not for ${unable}: it is for ${able.join(', ')}`);
  }
  if (values.turn !== undefined && positionals.length === 0) say(`of this turn: ${chosen.join(', ')}`);
  refuseUnused(values, chosen, positionals.length);
  const kept = await mkdtemp(join(tmpdir(), 'dmabuf-debug-'));
  try {
    const suites = await suitesFor(values, machine, narrow, kept);
    await requirePackages([...new Set([...toolsFor(machine), ...toolsFor(narrow), 'device-tree-compiler'])]);
    await buildHere();
    // The sources may change meanwhile.
    const modules = await buildModules(await kernelFiles(machine.kernel, machine.architecture), machine.architecture);
    const counting = partNames.filter((name) => name !== 'detectors');
    const ran = counting.filter((name) => chosen.includes(name));
    // That of an earlier run would be taken for this one's.
    if (ran.length > 0) await rm(COVERAGE, { force: true });
    const counts = [await runSuites(chosen.flatMap((name) => suites[name]))];
    if (ran.length > 0 && !stopping()) {
      const whole =
        ran.length === counting.length &&
        [values.grep, values.file, values.userland].every((value) => value === undefined);
      counts.push(
        await coverage(machine, modules, kept, whole).catch((error) => {
          if (stopping()) return { passed: 0, failed: 0, skipped: 0 };
          say(`coverage: failed: ${told(error)}`);
          return { passed: 0, failed: whole ? 3 : 1, skipped: 0 };
        }),
      );
    }
    const all = total(counts);
    console.log(counted(all));
    return all.failed === 0 ? 0 : 1;
  } finally {
    await rm(kept, { recursive: true, force: true });
  }
}

runMain('test:debug', main);
