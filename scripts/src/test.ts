// SPDX-License-Identifier: MIT
// npm test: the tests on this machine, those of the guest script, and those that run in a guest against the
// modules. One line at the end counts all of them. npm test -- NAME… runs some of them; npm run test:all adds
// "more", those that take long or need a network, and the whole matrix.
import { join } from 'node:path';
import { buildHere } from './build-here.ts';
import { type Combination, combinations, standard } from './combinations.ts';
import { Failure } from './failure.ts';
import {
  BOARD,
  boardOptions,
  type Counts,
  guestTests,
  prepareBoard,
  prepareGuestTests,
  reporter,
  SHORT,
} from './guest-tests.ts';
import { requirePackages } from './host.ts';
import { toolsFor } from './machines.ts';
import { runMain } from './run.ts';
import { counted, runSuites, type Suite, total } from './suites.ts';

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
  // Two at a time take less long than one after the other.
  ...[/^(bench|cache|matrix)\.more\.test\.ts$/, /^(?!bench\.|cache\.|matrix\.).*\.more\.test\.ts$/].map(
    (files, half): Suite => ({
      name: 'more',
      title: `that take longer, ${half + 1} of 2`,
      folder: 'test/lab',
      files,
      minutes: 45,
      command: here,
    }),
  ),
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
const BY_DEFAULT = ['unit', 'lab', 'guest', 'board'];
/** In this order, and no others meanwhile. */
const TOGETHER = [['unit'], ['lab', 'guest', 'board'], ['more'], ['matrix']];

async function main(): Promise<number> {
  const args = process.argv.slice(2);
  const known = suites.map(({ name }) => name);
  const unknown = args.find((name) => name !== '--all' && !known.includes(name));
  if (unknown !== undefined) throw new Failure(`${unknown}: there is ${known.join(', ')}`);
  const wanted = args.includes('--all') ? known : args.length > 0 ? args : BY_DEFAULT;
  const chosen = suites.filter(({ name }) => wanted.includes(name));
  await requirePackages([...toolsFor(guest.machine), 'device-tree-compiler']);
  await buildHere();
  const all: Counts[] = [];
  for (const together of TOGETHER) all.push(await runSuites(chosen.filter(({ name }) => together.includes(name))));
  const counts = total(all);
  console.log(counted(counts));
  return counts.failed === 0 ? 0 : 1;
}

runMain('tests', main);
