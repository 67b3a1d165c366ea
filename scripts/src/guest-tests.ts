// SPDX-License-Identifier: MIT
// The tests that run in a guest, as a command, and what they left behind.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildPrograms } from '../../test/guest/c/build.ts';
import type { Architecture } from './machines.ts';
import { projectRoot } from './project.ts';

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
const GUEST_S = 1200;

/** Rounds of the test that kills, where they are not to be its default. */
const { DMABUF_KILLS } = process.env;

export const reporter = ['--reporter', 'test/reporter.cjs'];

/** Programs in C that the tests run, for the guest to find in a directory that is its /share. */
export const prepareGuestTests = (directory: string, userland: Architecture) =>
  buildPrograms(join(directory, 'c'), `${userland.gnu}-gcc`);

export function guestTests(directory: string, options: string[], files: string[], mocha: string[] = []): string[] {
  return [
    ...['scripts/guest', ...options, '--share', directory],
    // Debian's kernels zero all memory themselves otherwise, and nobody would see that a module does not.
    ...['--timeout', `${GUEST_S}`, '--append', 'init_on_alloc=0', '--'],
    ...['env', 'DMABUF_TEST_RESULT=/share/result.json', ...(DMABUF_KILLS ? [`DMABUF_KILLS=${DMABUF_KILLS}`] : [])],
    ...['node', '--expose-gc', 'node_modules/mocha/bin/mocha.js', '--no-config', '--timeout', '120000'],
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

/** Names of test files without a suffix of their own, as in NAME.more.test.ts. */
export const SHORT = /^[\w-]+\.test\.ts$/;

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
    result.failures.push({ title: none ? 'no test ran' : `ended with exit code ${code}`, message: '' });
  }
  return result;
}
