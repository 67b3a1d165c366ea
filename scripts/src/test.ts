// SPDX-License-Identifier: MIT
// npm test: the tests on this machine, those of the guest script, and those that run in a guest against the
// modules. One line at the end counts all of them. npm test -- NAME… runs some of them; npm run test:all adds
// "more", those that take long or need a network, and the whole matrix. --turn N, for a run with little time, leaves
// some of "more" out, others for each N.
import { join } from 'node:path';
import { buildHere } from './build-here.ts';
import { type Combination, combinations, standard } from './combinations.ts';
import { Failure } from './failure.ts';
import {
  BOARD,
  boardOptions,
  type Counts,
  EDUS,
  guestTests,
  prepareBoard,
  prepareGuestTests,
  reporter,
  SHORT,
} from './guest-tests.ts';
import { requirePackages } from './host.ts';
import { toolsFor } from './machines.ts';
import { say } from './progress.ts';
import { runMain } from './run.ts';
import { counted, runSuites, type Suite, total } from './suites.ts';

const here: Suite['command'] = (files, directory) => ({
  argv: ['node_modules/.bin/mocha', ...reporter, ...files],
  env: { DMABUF_TEST_RESULT: join(directory, 'result.json') },
});

/** Of "more", by what their files begin with: what runs beside all else, and what takes turns. */
const BESIDE = ['bench', 'matrix'];
const IN_TURN = ['bench', 'cma-regions', 'device-tree', 'edu', 'fragmentation', 'ion-clients', 'nodes', 'sanitizers'];

const beginning = (names: string[]) => `(${names.join('|')})\\.`;

/** "more" in two halves: two at a time take less long than one after the other. */
function more(turn: number | undefined): Suite[] {
  const out = turn === undefined ? [] : IN_TURN.filter((_, i) => i !== turn % IN_TURN.length);
  if (out.length > 0) say(`left to other turns: ${out.join(', ')}, and some of kernel-selftests`);
  // Those that take turns have turns within.
  const env = turn === undefined ? {} : { DMABUF_TURN: `${Math.floor(turn / IN_TURN.length)}` };
  const beside = beginning(BESIDE.filter((name) => !out.includes(name)));
  return [beside, `(?!${beginning([...BESIDE, ...out])})[\\w-]+\\.`].map((files, half) => ({
    name: 'more',
    title: `that take longer, ${half + 1} of 2`,
    folder: 'test/lab',
    files: new RegExp(`^${files}more\\.test\\.ts$`),
    minutes: 45,
    command: (files, directory) => {
      const command = here(files, directory);
      return { ...command, env: { ...command.env, ...env } };
    },
  }));
}

const guest = combinations.find(({ name }) => name === standard) as Combination;

/** In this order they are shown. */
const suitesOf = (turn: number | undefined): Suite[] => [
  { name: 'unit', title: 'on this machine', folder: 'test/unit', files: SHORT, command: here },
  { name: 'lab', title: 'of the guest script', folder: 'test/lab', files: SHORT, command: here },
  {
    name: 'guest',
    title: 'in the guest, against the modules',
    folder: 'test/guest',
    files: SHORT,
    prepare: (directory) => prepareGuestTests(directory, guest.machine.userland),
    command: (files, directory) => ({
      argv: guestTests(directory, { options: [...guest.options, ...EDUS], files }),
    }),
  },
  {
    name: 'command',
    title: 'of the command, in the guest',
    folder: 'test/guest/command',
    files: SHORT,
    prepare: (directory) => prepareGuestTests(directory, guest.machine.userland),
    command: (files, directory) => ({ argv: guestTests(directory, { options: guest.options, files }) }),
  },
  {
    name: 'board',
    ...BOARD,
    files: SHORT,
    prepare: prepareBoard,
    command: (files, directory) => ({
      argv: guestTests(directory, { options: [...guest.options, ...boardOptions(directory)], files }),
    }),
  },
  ...more(turn),
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
const BY_DEFAULT = ['unit', 'lab', 'guest', 'command', 'board'];
/** In this order, and no others meanwhile. */
const TOGETHER = [['unit'], ['lab', 'guest', 'command', 'board'], ['more'], ['matrix']];

/** Takes --turn N out of the arguments. */
function turnOf(args: string[]): number | undefined {
  const at = args.indexOf('--turn');
  if (at < 0) return undefined;
  const [, number = ''] = args.splice(at, 2);
  if (!/^\d{1,9}$/.test(number)) throw new Failure(`--turn ${number}: a whole number`);
  if (!args.includes('more')) throw new Failure('--turn is for more');
  return Number(number);
}

async function main(): Promise<number> {
  const args = process.argv.slice(2);
  const turn = turnOf(args);
  const suites = suitesOf(turn);
  const known = suites.map(({ name }) => name);
  const unknown = args.find((name) => name !== '--all' && !known.includes(name));
  if (unknown !== undefined) throw new Failure(`${unknown}: there is ${known.join(', ')}`);
  const wanted = args.includes('--all') ? known : args.length > 0 ? args : BY_DEFAULT;
  const chosen = suites.filter(({ name }) => wanted.includes(name));
  await requirePackages([...toolsFor(guest.machine), 'device-tree-compiler', 'dbus-daemon']);
  await buildHere();
  const all: Counts[] = [];
  for (const together of TOGETHER) all.push(await runSuites(chosen.filter(({ name }) => together.includes(name))));
  const counts = total(all);
  console.log(counted(counts));
  return counts.failed === 0 ? 0 : 1;
}

runMain('tests', main);
