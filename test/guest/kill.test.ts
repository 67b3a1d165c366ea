// SPDX-License-Identifier: MIT
/**
 * Node processes that are killed at random moments. DMABUF_KILLS says how many (default 10),
 * DMABUF_SEED repeats the moments of an earlier run.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  allCounters,
  childScript,
  counters,
  describeModules,
  devices,
  eventually,
  idleCounters,
  load,
  memory,
  moduleOf,
  PAGE,
  random,
  suiteWithParameters,
  unload,
} from './support.ts';

const { DMABUF_KILLS, DMABUF_SEED } = process.env;
const kills = Number(DMABUF_KILLS ?? 10);
const seed = Number(DMABUF_SEED ?? Date.now() % 1_000_000);

/** Latest moment, in ms after the victim has begun. */
const LATEST_MS = 250;
/** Victims that get ready at the same time: starting node costs far more than what follows. */
const AT_ONCE = 4;

const victims = new Set<ChildProcess>();

/** A process that has opened the devices and waits for its line to begin. */
async function victim(script: string, ...args: string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [childScript(script), ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  victims.add(child);
  assert(child.stdout);
  await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
  assert.deepEqual([child.exitCode, child.signalCode], [null, null], 'it ended before it was ready');
  return child;
}

async function kill(child: ChildProcess, moment: number): Promise<void> {
  child.stdin?.write('begin\n');
  await sleep(moment);
  assert.deepEqual([child.exitCode, child.signalCode], [null, null], 'it ended by itself');
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  assert.deepEqual(await ended, [null, 'SIGKILL']);
}

after(() => {
  for (const child of victims) child.kill('SIGKILL');
});

describeModules(`a Node process killed at a random moment (${kills} times, DMABUF_SEED=${seed})`, () => {
  it('leaves nothing allocated', async function () {
    this.timeout(Math.max(this.timeout(), 30_000 + kills * 10_000));
    const next = random(seed);
    for (let done = 0; done < kills; done += AT_ONCE) {
      const count = Math.min(AT_ONCE, kills - done);
      for (const child of await Promise.all(Array.from({ length: count }, () => victim('victim.mjs')))) {
        assert.deepEqual(allCounters(), idleCounters);
        const moment = next() * LATEST_MS;
        await kill(child, moment);
        await eventually(() => assert.deepEqual(allCounters(), idleCounters, `killed after ${moment} ms`));
      }
    }
  });

  it('leaves modules that unload, and load again', () => {
    unload(...devices.map((device) => moduleOf[device]), 'dmabuf_core');
    for (const device of devices) load(moduleOf[device]);
    assert.deepEqual(allCounters(), idleCounters);
  });
});

describeModules('SIGKILL in the middle of a large allocation', () => {
  // Its figures begin anew, and no memory of the pool makes an allocation quick.
  suiteWithParameters('ion', 'pool_max=0');

  const ofHeap = (name: string) => Number(readFileSync(`/sys/class/misc/ion/heap0/${name}`, 'utf8'));
  const KIB_PER_MIB = 1024;
  let processors: string;

  // Who allocates has the processor only while this process sleeps: however slow the machine, a look is never late.
  const stayOn = (list: string) => execFileSync('taskset', ['-pc', list, `${process.pid}`], { stdio: 'ignore' });
  before(() => {
    processors = /^Cpus_allowed_list:\t(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
    stayOn(`${Number.parseInt(processors, 10)}`);
  });
  after(() => stayOn(processors));

  it('ends it before all of it is there, and gives back what is', async function () {
    this.timeout(Math.max(this.timeout(), 120_000));
    const size = Math.floor(Math.min(memory('MemAvailable') / 2, memory('MemTotal') / 3) / (PAGE / 1024)) * PAGE;
    const child = await victim('hoarder.mjs', `${size}`);
    setPriority(child.pid as number, 19);
    const ended = once(child, 'exit');
    const before = memory('MemFree');
    child.stdin?.write('begin\n');
    for (const deadline = Date.now() + 60_000; before - memory('MemFree') < 16 * KIB_PER_MIB; await sleep(1)) {
      assert(Date.now() < deadline, 'it has not begun');
    }
    assert.deepEqual([counters('ion'), ofHeap('buffers')], [{ buffers: 1, bytes: size }, 0], 'it is not in the middle');
    child.kill('SIGKILL');
    assert.deepEqual(await ended, [null, 'SIGKILL']);
    await eventually(() => assert.deepEqual(allCounters(), idleCounters));
    assert.equal(ofHeap('peak_bytes'), 0, 'it went on to its end');
    await eventually(() => assert(before - memory('MemFree') < 16 * KIB_PER_MIB, `${before - memory('MemFree')} KiB`));

    // There was enough for it.
    const another = await victim('hoarder.mjs', `${size}`);
    another.stdin?.write('begin\n');
    assert(another.stdout);
    assert.equal(String((await once(another.stdout, 'data'))[0]), 'done\n');
    assert.equal(ofHeap('peak_bytes'), size);
    another.stdin?.end();
    assert.deepEqual(await once(another, 'exit'), [0, null]);
  });
});
