// SPDX-License-Identifier: MIT
/** Every way in which a system call of the modules can fail: the operations of ../guest/c/fail-nth.c. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import {
  allCounters,
  describeModules,
  eventually,
  idleCounters,
  kernelLog,
  load,
  program,
  unload,
} from '../guest/support.ts';

const FAIL_NTH = '/proc/self/fail-nth';
const DEBUGFS = '/sys/kernel/debug';

/** What `fail-nth --list` says of an operation. */
interface Operation {
  operation: string;
  /** How it is made to fail. */
  kind: string;
  allocates: boolean;
  driver?: string;
  parameters?: string;
}

/** What it says after it has run one. */
interface Result {
  operation: string;
  kind: string;
  /** Calls, of which one at most was not made to fail. */
  steps: number;
  /** How many of these failed with which errno. */
  failures: Record<string, number>;
  /** And how many did without what they did not get. */
  survived: number;
  ok: boolean;
}

const { path, missing } = program('fail-nth');

function operations(): Operation[] {
  const lines = execFileSync(path, ['--list'], { encoding: 'utf8' }).trim().split('\n');
  return lines.map((line) => JSON.parse(line) as Operation);
}

const reason = existsSync(FAIL_NTH)
  ? missing
  : `no ${FAIL_NTH}: a kernel with CONFIG_FAULT_INJECTION, such as scripts/guest --kernel debug`;

/** A test of each, all by one process: what it says of one is wrong stands before the test that failed. */
function check(its: Operation[]): void {
  let running: ChildProcess;
  let results: AsyncIterator<string>;

  before(() => {
    running = spawn(
      path,
      its.map(({ operation, kind }) => `${kind}:${operation}`),
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    assert(running.stdout);
    results = createInterface(running.stdout)[Symbol.asyncIterator]();
  });

  for (const operation of its) {
    it(`${operation.operation}, ${operation.kind}`, async () => {
      const { value, done } = await results.next();
      assert(!done, `${path} ended early: ${running.signalCode ?? running.exitCode}`);
      const result = JSON.parse(value) as Result;
      assert.deepEqual([result.operation, result.kind], [operation.operation, operation.kind]);
      assert(result.ok, value);
      // The program judges each failure. Where there is none, nothing was made to fail.
      const fails = operation.allocates || operation.kind !== 'nth';
      assert.equal(Object.keys(result.failures).length > 0, fails, value);
    });
  }

  it('leave nothing', async () => {
    assert((await results.next()).done);
    await eventually(() => assert.deepEqual(allCounters(), idleCounters));
  });
}

describeModules('error paths', () => {
  if (reason !== undefined) {
    it(reason);
    return;
  }

  const all = operations();

  before(() => execFileSync(path, ['--load-heaps']));

  after(() => {
    unload('ion_lite');
    load('ion_lite');
  });

  describe('without a driver', () => check(all.filter(({ driver }) => driver === undefined)));

  for (const driver of new Set(all.flatMap((operation) => operation.driver ?? []))) {
    describe(`with ${driver}`, () => {
      const its = all.filter((operation) => operation.driver === driver);

      before(() => load(driver, ...(its[0]?.parameters ?? '').split(' ').filter(Boolean)));

      after(() => eventually(() => unload(driver)));

      check(its);
    });
  }

  describe('afterwards', () => {
    // They turn themselves off where they do not get the memory they want, and are silent ever after.
    it('the checks of DMA and of leaks are still at work', function () {
      const disabled = `${DEBUGFS}/dma-api/disabled`;
      if (!existsSync(disabled) || !existsSync(`${DEBUGFS}/kmemleak`)) return this.skip();
      assert.equal(readFileSync(disabled, 'utf8').trim(), 'N');
      assert.doesNotMatch(kernelLog(), /Kernel memory leak detector disabled/);
    });
  });
});
