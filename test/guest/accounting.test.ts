// SPDX-License-Identifier: MIT
/** Who pays for buffers: memory cgroups, with `mem_accounting=1` and without. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  allCounters,
  counters,
  debugfs,
  describeModules,
  eventually,
  idleCounters,
  oomKills,
  program,
  skipWithout,
  suiteWithParameters,
} from './support.ts';

const MIB = 2 ** 20;
/** Of the group: far less than max_bytes, and far more than the programs in it need. */
const LIMIT = 64 * MIB;
/** What all clients may have together. */
const MAX_BYTES = 128 * MIB;

const SYSTEM = 0;
const SYSTEM_CONTIG = 1;

/** A program in a memory cgroup; of the group it gets what it is started with. */
function startIn(group: string, script: string, ...args: string[]): ChildProcess {
  const inGroup = `echo $$ >"$0/cgroup.procs" && ${script}`;
  return spawn('sh', ['-c', inGroup, group, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
}

async function lineOf(child: ChildProcess): Promise<string> {
  assert(child.stdout);
  for await (const line of createInterface(child.stdout)) return line;
  assert.fail(`it ended: ${child.signalCode ?? child.exitCode}`);
}

async function end(child: ChildProcess): Promise<void> {
  child.stdin?.end();
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

describeModules('memory cgroups', () => {
  const { path, missing } = program('hog');
  let root: string;
  let group: string | undefined;

  before(function () {
    root = mkdtempSync(join(tmpdir(), 'cgroup-'));
    execFileSync('mount', ['-t', 'cgroup2', 'none', root]);
    const has = readFileSync(join(root, 'cgroup.controllers'), 'utf8').split(/\s/).includes('memory');
    skipWithout(missing ?? (has ? undefined : 'this kernel has no memory cgroups'), this);
    writeFileSync(join(root, 'cgroup.subtree_control'), '+memory');
    group = join(root, 'hogs');
    mkdirSync(group);
    writeFileSync(join(group, 'memory.max'), `${LIMIT}`);
  });

  after(async () => {
    const made = group;
    if (made !== undefined) await eventually(() => rmdirSync(made));
    execFileSync('umount', [root]);
    rmdirSync(root);
  });

  const charged = () => Number(readFileSync(join(group ?? '', 'memory.current'), 'utf8'));

  /** Allocates in the group until it is refused, beside a shell that lives on. */
  async function hog(heap: number, check: (mebibytes: number) => void): Promise<void> {
    const before = oomKills();
    assert(group !== undefined);
    const shell = startIn(group, 'while read -r word; do echo "$word"; done');
    const child = startIn(group, 'exec "$1" "$2"', path, `${heap}`);
    try {
      const [count = '', errno] = (await lineOf(child)).split(' ');
      assert.equal(Number(errno), constants.errno.ENOMEM);
      assert.equal(counters('ion').bytes, Number(count) * MIB);
      check(Number(count));
    } finally {
      await end(child);
    }
    shell.stdin?.write('alive\n');
    assert.equal(await lineOf(shell), 'alive');
    await end(shell);
    assert.equal(oomKills(), before);
    await eventually(() => assert.deepEqual(allCounters(), idleCounters));
  }

  describe('with mem_accounting=1', () => {
    suiteWithParameters('ion', 'mem_accounting=1', `max_bytes=${MAX_BYTES}`);

    for (const [name, heap] of [
      ['scattered', SYSTEM],
      ['one block of the page allocator', SYSTEM_CONTIG],
    ] as const) {
      it(`are charged for buffers that are ${name}: ENOMEM at the limit of the group`, async () => {
        const idle = charged();
        await hog(heap, (count) => {
          assert(count * MIB < LIMIT && count * MIB > LIMIT / 2, `${count} MiB`);
          assert(charged() >= count * MIB);
        });
        await eventually(() => assert(charged() < idle + 8 * MIB, `${charged()} bytes`));
      });
    }

    it('have no pool, whose memory would stay charged', () => {
      assert(!existsSync(debugfs('ion/pool')));
    });
  });

  describe('without it', () => {
    suiteWithParameters('ion', `max_bytes=${MAX_BYTES}`);

    it('are not charged for buffers: ENOMEM at the limit of all clients', async () => {
      await hog(SYSTEM, (count) => {
        assert.equal(count * MIB, MAX_BYTES);
        assert(charged() < LIMIT / 2, `${charged()} bytes`);
      });
    });
  });
});
