// SPDX-License-Identifier: MIT
// The tests that run in a guest, as a command, and what they left behind.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildPrograms } from '../../test/guest/c/build.ts';
import { bringProgram } from './debian-programs.ts';
import { Failure } from './failure.ts';
import type { Architecture } from './machines.ts';
import { projectRoot } from './project.ts';
import { run } from './run.ts';

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** What test/reporter.cjs writes. */
export interface Result extends Counts {
  /** grep: what runs it again. */
  failures: { title: string; message: string; grep?: string }[];
}

/** Seconds: several times what the slowest guest takes. */
const GUEST_S = 2400;

/** Rounds of loops, moments of the tests that kill, and frames of the long one, where they are not to be their default. */
const ofLoops = ['DMABUF_ROUNDS', 'DMABUF_KILLS', 'DMABUF_SEED', 'DMABUF_FRAMES'].flatMap((name) => {
  const value = process.env[name];
  return value ? [[name, value]] : [];
});

export const reporter = ['--reporter', 'test/reporter.cjs'];

/** Programs that the tests run, ours in C and Debian's strace, for the guest to find in a directory that is its /share. */
export async function prepareGuestTests(directory: string, userland: Architecture): Promise<void> {
  const programs = join(directory, 'c');
  await buildPrograms(programs, `${userland.gnu}-gcc`);
  await bringProgram('strace', programs, userland);
}

/** Tests of a guest whose device tree describes the heaps of a board. */
export const BOARD = { folder: 'test/guest/board', title: "in a guest with a board's heaps" };

/** Machines without a device tree have no board. */
export const hasBoard = ({ bus }: Architecture) => bus !== 'pci';

const overlayOf = (directory: string) => join(directory, 'board.dtbo');

/** Compiles a board's device tree. */
export const prepareBoard = (directory: string) =>
  run('dtc', ['-q', '-@', '-O', 'dtb', '-o', overlayOf(directory), join(projectRoot, BOARD.folder, 'board.dtso')], {
    purpose: "compiling a board's device tree",
  });

/** Options of scripts/guest that make it that board. */
export const boardOptions = (directory: string) => ['--dtbo', overlayOf(directory)];

const EDU = ['--qemu-arg', '-device', '--qemu-arg', 'edu,dma_mask=0xffffffff'];

/** Options of scripts/guest for two devices that do DMA, which most of the tests in test/guest leave alone. */
export const EDUS = [...EDU, ...EDU];

/** Tests of such devices in guests of their own: what may be between them and memory. */
export const EDU_GUESTS = {
  bounce: {
    title: 'with devices whose memory bounces',
    folder: 'test/guest/edu',
    files: /^bounce\.test\.ts$/,
    options: EDUS,
    append: 'swiotlb=65536,force',
  },
  iommu: {
    title: 'with devices behind an IOMMU',
    folder: 'test/guest/edu',
    files: /^iommu\.test\.ts$/,
    options: [...EDUS, '--qemu-arg', '-machine', '--qemu-arg', 'iommu=smmuv3'],
  },
};

/** Whether QEMU's machine can have an IOMMU; others do not come with the tests. */
export const hasIommu = ({ name }: Architecture) => name === 'arm64';

export interface GuestTests {
  /** Of scripts/guest, besides --share. */
  options: string[];
  /** Of the kernel's command line, besides what all of them have. */
  append?: string;
  files: string[];
  /** Options of mocha. */
  mocha?: string[];
  /** A command that runs the one it is given. */
  under?: string[];
  env?: Record<string, string>;
  /** Milliseconds a test may take that does not say so itself; two minutes if nothing else is said. */
  patience?: number;
  /** Several times what they take; 2400 if nothing else is said. */
  seconds?: number;
}

/** The command that runs tests in a guest, whose /share is a directory of ours. */
export function guestTests(
  directory: string,
  { options, append = '', files, mocha = [], under = [], env = {}, patience = 120_000, seconds = GUEST_S }: GuestTests,
): string[] {
  const environment = { DMABUF_TEST_RESULT: '/share/result.json', ...Object.fromEntries(ofLoops), ...env };
  return [
    ...['scripts/guest', ...options, '--share', directory],
    // Debian's kernels zero all memory themselves otherwise, and nobody would see that a module does not.
    ...['--timeout', `${seconds}`, '--append', `init_on_alloc=0 ${append}`.trim(), '--'],
    ...['env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`), ...under],
    ...['node', '--expose-gc', 'node_modules/mocha/bin/mocha.js', '--no-config', '--timeout', `${patience}`],
    ...['--slow', '5000', ...reporter, ...mocha, ...files],
  ];
}

/** The test files of a folder. */
export async function testFiles(folder: string, like: RegExp): Promise<string[]> {
  const names = await readdir(join(projectRoot, folder));
  return names
    .filter((name) => like.test(name))
    .sort()
    .map((name) => `${folder}/${name}`);
}

/** For the loops of tests where each round takes long, or there is little time: what long ones lose, short ones find, too. */
export const FEWER_ROUNDS = { DMABUF_ROUNDS: '100', DMABUF_KILLS: '4' };

/** Names of test files without a suffix of their own, as in NAME.more.test.ts. */
export const SHORT = /^[\w-]+\.test\.ts$/;

/** SHORT of test files whose names begin with one of these; of all without any. */
export function beginningWith(names: string[] | undefined): RegExp {
  const which = names?.map((name) => name.replaceAll(/[^\w-]/g, '\\$&')).join('|');
  return which === undefined ? SHORT : new RegExp(`^(?=${which})${SHORT.source.slice(1)}`);
}

/** @throws Failure where no test file of every guest, or of the board's, has a name that begins like that */
export async function requireFiles(names: string[] | undefined): Promise<void> {
  for (const name of names ?? []) {
    const found = await Promise.all(
      ['test/guest', BOARD.folder].map((folder) => testFiles(folder, beginningWith([name]))),
    );
    if (name === '' || found.flat().length === 0) {
      throw new Failure(`--file ${name}: no name of a test file begins like that`);
    }
  }
}

/** What a run left in its directory; it counts as one failure if it broke off where no test says so. */
export async function resultOf(directory: string, code: number | null): Promise<Result> {
  const file = join(directory, 'result.json');
  const result: Result = await readFile(file, 'utf8')
    .then(JSON.parse)
    // There is none, or half of one.
    .catch(() => ({ passed: 0, failed: 0, skipped: 0, failures: [] }));
  const none = code === 0 && result.passed === 0 && result.failed === 0;
  // Mocha's own exit code is the number of failures. Others speak of the guest: a kernel's report, a timeout.
  if (none || (code !== 0 && code !== result.failed)) {
    result.failed++;
    result.failures.push({ title: none ? NONE : `ended with exit code ${code}`, message: '' });
  }
  return result;
}

const NONE = 'no test ran';

/** Whether all a result says is that. */
export const noTestRan = ({ failures }: Result) => failures.length === 1 && failures[0]?.title === NONE;
