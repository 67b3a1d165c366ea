// SPDX-License-Identifier: MIT
/**
 * Calls that race on four processors: the scenarios of ../guest/c/races.c. DMABUF_RACE_ROUNDS says how many rounds of
 * each (default: each its own), DMABUF_RACE_SEED repeats the choices of an earlier run.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { allCounters, describeModules, idleCounters, program } from '../guest/support.ts';

const { DMABUF_RACE_ROUNDS, DMABUF_RACE_SEED = '1' } = process.env;

/** Chance decides what meets what: so many runs, each with a seed of its own, until all has been seen. */
const TRIES = 6;

/** Several times what all tries of a scenario take on a slow machine, with its own number of rounds, and besides. */
const TRIES_MS = 600_000;
const BESIDES_MS = 300_000;

/** With fewer there is little to race. */
const PROCESSORS = 4;

/** What races.c prints. */
interface Result {
  scenario: string;
  seed: number;
  rounds: number;
  seconds: number;
  /** How often a call ended in a way: `'alloc ENOMEM'`. */
  outcomes: Record<string, number>;
}

const both = (call: string, error: string) => [`${call} ok`, `${call} ${error}`];
const modules = ['exporter', 'ion_lite', 'cma_mem'];

/** A pool of pages, where there is one, is drained beside the rest. */
const drains = existsSync('/sys/module/ion_lite/parameters/pool_max') ? ['drain ok'] : [];

/** What each must have come to: both ends of the calls that meet, and the work of those that disturb them. */
const meetings: Record<string, string[]> = {
  ion: [...both('alloc', 'EBADF'), 'counters ok'],
  limit: [...both('alloc', 'ENOMEM'), 'alloc EBADF'],
  kept: [...both('alloc', 'EBADF'), 'cmem alloc ok', 'drain ok', 'drop caches ok', 'reuse ok'],
  regions: [
    ...both('allocate', 'EBADF'),
    'allocate untold EFAULT',
    ...both('export a guess', 'EINVAL'),
    ...both('map a guess', 'EINVAL'),
    'map an export ok',
  ],
  connect: [
    ...both('allocate', 'EBADF'),
    ...['EINVAL', 'EBUSY'].flatMap((error) => both('connect', error)),
    ...['give up', 'look at a guess', 'export a guess', 'map a guess'].flatMap((call) => both(call, 'EINVAL')),
    ...['allocate in a view', 'allocate in a new file'].flatMap((call) => both(call, 'EPERM')),
  ],
  slot: [
    ...['map', 'dup', 'sync', 'name', 'close'].flatMap((call) => both(`${call} the slot`, 'EBADF')),
    ...both('fdinfo of the slot', 'ENOENT'),
  ],
  mappings: ['move ok', 'grow EFAULT', 'a child ended ok', 'a child was killed ok', 'a child had the last mapping ok'],
  attach: [
    ...both('import', 'EBADF'),
    ...both('sync', 'EBADF'),
    ...both('GEM_CLOSE of a shared handle', 'EINVAL'),
    ...both('QBUF', 'EINVAL'),
    'DQBUF ok',
  ],
  lists: [...['a buffer ok', 'a device ok', 'the heaps ok', 'a figure ok', 'name ok', 'GEM_CLOSE ok']],
  carveouts: [...both('alloc', 'ENOMEM'), 'some is left ok'],
  handles: [
    ...both('alloc', 'EBADF'),
    ...['share', 'free'].flatMap((call) => both(call, 'EINVAL')),
    ...['share', 'free', 'flags of'].flatMap((call) => both(`${call} a guess`, 'EINVAL')),
    ...['import ok', 'free an import ok', 'clients ok'],
  ],
  caches: ['sync ok', 'clean ok', 'clean and drop ok', 'import ok', 'GEM_CLOSE ok'],
  unload: [
    ...[...modules, 'dmabuf_core'].flatMap((name) => both(`delete ${name}`, 'EAGAIN')),
    ...modules.map((name) => `delete ${name} in use EAGAIN`),
    ...modules.flatMap((name) => both(`open ${name}`, 'ENOENT')),
    'import ok',
    ...both('open a node', 'ENOENT'),
    'alloc from a node ok',
    ...both('read an attribute', 'ENOENT'),
    ...both('open a list', 'ENOENT'),
    ...both('read a list', 'EIO'),
  ],
  pressure: [
    ...both('alloc', 'ENOMEM'),
    ...['cmem alloc ok', 'allocate ok', 'import ok', 'drop caches ok', 'compact ok'],
    ...drains,
  ],
  kill: ['killed in an allocation ok'],
  exec: ['exec amid allocations ok'],
  unshare: [...both('map the copy', 'EBADF'), ...both('alloc', 'EBADF')],
};

const { path, missing } = program('races');

function whyNot(): string | undefined {
  const processors = availableParallelism();
  if (processors >= PROCESSORS) return missing;
  return `needs ${PROCESSORS} processors, here are ${processors}: scripts/guest --smp ${PROCESSORS}`;
}

/** Name, default number of rounds and title of each scenario. */
function list(): { name: string; rounds: number; title: string }[] {
  const lines = execFileSync(path, ['--list'], { encoding: 'utf8' }).trim().split('\n');
  return lines.map((line) => {
    const [, name = '', rounds, title = ''] = /^(\w+) (\d+) (.*)$/.exec(line) ?? [];
    return { name, rounds: Number(rounds), title };
  });
}

async function race(name: string, rounds: number, seed: number): Promise<Result> {
  const args = ['--seed', `${seed}`, '--rounds', `${rounds}`, name];
  const { stdout } = await promisify(execFile)(path, args).catch((error) =>
    assert.fail(`races ${args.join(' ')}: ${error.signal ?? `exit code ${error.code}`}\n${error.stderr}`),
  );
  return JSON.parse(stdout);
}

describeModules(`races (DMABUF_RACE_SEED=${DMABUF_RACE_SEED})`, () => {
  const reason = whyNot();
  if (reason !== undefined) {
    it(`are not run: ${reason}`);
    return;
  }

  for (const { name, rounds: own, title } of list()) {
    const rounds = Number(DMABUF_RACE_ROUNDS ?? own);
    it(`${name}: ${title} (${rounds} rounds)`, async function () {
      // races.c itself notices when nothing goes on, and cannot end if that is in the kernel.
      this.timeout(BESIDES_MS + (rounds / own) * TRIES_MS);
      const expected = meetings[name] ?? [];
      const met = new Set<string>();
      for (let tries = 0; ; tries++) {
        const result = await race(name, rounds, Number(DMABUF_RACE_SEED) + tries);
        console.log(`      ${result.seconds} s ${JSON.stringify(result.outcomes)}`);
        assert.equal(result.rounds, rounds);
        for (const outcome of Object.keys(result.outcomes)) met.add(outcome);
        const absent = expected.filter((outcome) => !met.has(outcome));
        // A few rounds need not show everything.
        if (absent.length === 0 || rounds < own) break;
        assert(tries < TRIES - 1, `${absent.join(', ')}: never happened in ${TRIES} runs`);
      }
    });
  }

  it('are all there', () => {
    assert.deepEqual(
      list().map(({ name }) => name),
      Object.keys(meetings),
    );
  });

  it('leave the devices as they were', () => {
    assert.deepEqual(allCounters(), idleCounters);
  });
});
