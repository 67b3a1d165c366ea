// SPDX-License-Identifier: MIT
/** Every way in which a system call of the modules can fail: the operations of ../guest/c/fail-nth.c. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
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

/** Runs one; what it says is wrong becomes the message of the failed test. */
async function run({ operation, kind }: Operation): Promise<Result> {
  const running = promisify(execFile)(path, [`${kind}:${operation}`]);
  // At once: a call that hangs in the kernel keeps the program from ending.
  running.child.stderr?.pipe(process.stderr);
  const { stdout } = await running;
  return JSON.parse(stdout) as Result;
}

const reason = existsSync(FAIL_NTH)
  ? missing
  : `no ${FAIL_NTH}: a kernel with CONFIG_FAULT_INJECTION, such as scripts/guest --kernel debug`;

function check(operation: Operation): void {
  it(`${operation.operation}, ${operation.kind}`, async () => {
    const result = await run(operation);
    // The program judges each failure. Where there is none, nothing was made to fail.
    const fails = operation.allocates || operation.kind !== 'nth';
    assert.equal(Object.keys(result.failures).length > 0, fails, JSON.stringify(result));
    await eventually(() => assert.deepEqual(allCounters(), idleCounters));
  });
}

describeModules('error paths', () => {
  if (reason !== undefined) {
    it(reason);
    return;
  }

  const all = operations();
  describe('without a driver', () => {
    for (const operation of all.filter(({ driver }) => driver === undefined)) check(operation);
  });

  for (const driver of new Set(all.flatMap((operation) => operation.driver ?? []))) {
    describe(`with ${driver}`, () => {
      const its = all.filter((operation) => operation.driver === driver);

      before(() => load(driver, ...(its[0]?.parameters ?? '').split(' ').filter(Boolean)));

      after(() => eventually(() => unload(driver)));

      for (const operation of its) check(operation);
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
