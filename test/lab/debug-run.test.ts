// SPDX-License-Identifier: MIT
/** What test:debug makes of what its guests leave: lines that ran, and problems found. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FileCoverage, linesReached, report, shown, type Unreached } from '../../scripts/src/coverage.ts';
import { resultOf } from '../../scripts/src/guest-tests.ts';
import { addWhatIsLeft } from '../../scripts/src/left.ts';
import { debug, projectRoot } from './run-guest.ts';

describe('test:debug', function () {
  this.timeout(60_000);
  this.slow(30_000);

  it('says which options go with which parts', () => {
    for (const [args, message] of [
      [['nothing'], 'nothing: there is tests, errors, races, fuzz, detectors'],
      [['--seed', '7', 'tests'], '--seed is for fuzz and races, and the parts to run are: tests'],
      [['--grep', 'handle', 'fuzz'], '--grep is not for fuzz: it is for tests, races, detectors'],
      [['--file', 'pool', 'races'], '--file is not for races: it is for tests'],
      [['--file', 'nobody'], '--file nobody: no name of a test file begins like that'],
      [['--file', 'pool', '--turn', '2'], '--file and --turn: a turn chooses the files'],
    ] as const) {
      const { status, stderr, stdout } = debug(...args);
      assert.equal(stderr, `test:debug: ${message}\n`);
      assert.equal(stdout, '');
      assert.equal(status, 125);
    }
  });
});

describe('what a guest leaves behind', () => {
  let directory = '';

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'dmabuf-left-'));
    mkdirSync(join(directory, 'left'));
    writeFileSync(join(directory, 'result.json'), JSON.stringify({ passed: 3, failed: 0, skipped: 0, failures: [] }));
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  const leave = (name: string, text = '') => writeFileSync(join(directory, 'left', name), text);

  async function counted(code: number | null) {
    const result = await resultOf(directory, code);
    await addWhatIsLeft(directory, result);
    return result;
  }

  it('is one more test that passes where it is nothing', async () => {
    leave('done');
    assert.deepEqual(await counted(0), { passed: 4, failed: 0, skipped: 0, failures: [] });
  });

  it('fails with its text', async () => {
    leave('done');
    leave('leaks', 'unreferenced object');
    const { passed, failed, failures } = await counted(0);
    assert.deepEqual({ passed, failed }, { passed: 3, failed: 1 });
    assert.deepEqual(failures, [{ title: 'left behind: leaks', message: 'unreferenced object' }]);
  });

  it('fails where nobody looked to the end', async () => {
    assert.equal((await counted(0)).failed, 1);
    rmSync(join(directory, 'left'), { recursive: true });
    assert.equal((await counted(0)).failed, 1);
  });

  it('fails by the exit code as well: of what was left, of a report of the kernel, of a timeout, of a signal', async () => {
    leave('done');
    for (const code of [1, 99, 124, null]) {
      const { failed, failures } = await counted(code);
      assert.equal(failed, 1);
      assert.match(failures[0]?.title ?? '', /ended with exit code/);
    }
  });

  it('fails where no test ran', async () => {
    leave('done');
    writeFileSync(join(directory, 'result.json'), '{');
    assert.equal((await counted(0)).failed, 1);
  });
});

describe('lines of the modules that ran', () => {
  const file = 'core/main.c';
  const text = readFileSync(join(projectRoot, 'kernel-modules', file), 'utf8').split('\n');
  const numbers = (line: string) => text.flatMap((one, i) => (one.trim() === line ? [i + 1] : []));
  const [first = 0, second = 0] = numbers('goto unregister;');
  const [returned = 0] = numbers('return dma_device;');

  const coverage = (counts: [number, number][], branches: [string, number][] = []) =>
    new Map<string, FileCoverage>([
      [
        file,
        {
          file,
          lines: new Map(counts),
          branches: new Map(branches),
          functions: new Map(counts.map(([number]) => [number, 'init'])),
        },
      ],
    ]);
  const reason = (more: Partial<Unreached> = {}): Unreached => ({
    file,
    function: 'init',
    line: 'goto unregister;',
    reason: 'why',
    ...more,
  });

  it('are counted, the others listed', async () => {
    const all = await report(
      coverage([
        [returned, 5],
        [first, 0],
        [second, 0],
      ]),
      [],
    );
    assert.deepEqual(all.all.lines, { all: 3, reached: 1 });
    assert.equal(Math.round(linesReached(all)), 33);
    assert.deepEqual(
      all.left.map(({ number, reason: why }) => [number, why]),
      [
        [first, undefined],
        [second, undefined],
      ],
    );
    assert.match(shown(all), /main\.c:\d+ init\(\): goto unregister;\n +NO REASON GIVEN/);
  });

  it('need a reason each where they did not: one of many alike does not do for all', async () => {
    const all = await report(
      coverage([
        [first, 0],
        [second, 0],
      ]),
      [reason()],
    );
    assert.deepEqual(
      all.left.map(({ reason: why }) => why),
      ['why', undefined],
    );
    assert.deepEqual(all.stale, []);
  });

  it('make a reason stale, unless chance decides; so does a line that is not there', async () => {
    const gone = reason({ line: 'no such line;' });
    const ran = reason({ nth: 2 });
    const chance = reason({ sometimes: true });
    const all = await report(
      coverage([
        [first, 1],
        [second, 1],
      ]),
      [gone, ran, chance],
    );
    assert.deepEqual(all.stale, [gone, ran]);
    assert.match(shown(all), /reached, or not there any more: core\/main\.c init\(\): no such line;/);
  });

  it('show ways out that were never taken', async () => {
    const ways: [string, number][] = [
      [`${returned} init 0`, 3],
      [`${returned} init 1`, 0],
      [`${first} init 0`, 0],
    ];
    const all = await report(
      coverage(
        [
          [returned, 3],
          [first, 0],
        ],
        ways,
      ),
      [],
    );
    assert.deepEqual(all.all.branches, { all: 3, reached: 1 });
    assert.deepEqual(
      all.oneWay.map(({ number, ways: { all: of, reached } }) => [number, reached, of]),
      [[returned, 1, 2]],
    );
  });
});
