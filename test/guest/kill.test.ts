// SPDX-License-Identifier: MIT
/**
 * Node processes that are killed at random moments. DMABUF_KILLS says how many (default 10),
 * DMABUF_SEED repeats the moments of an earlier run.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  allCounters,
  childScript,
  describeModules,
  devices,
  eventually,
  idleCounters,
  load,
  moduleOf,
  random,
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
async function victim(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [childScript('victim.mjs')], { stdio: ['pipe', 'pipe', 'inherit'] });
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

describeModules(`a Node process killed at a random moment (${kills} times, DMABUF_SEED=${seed})`, () => {
  after(() => {
    for (const child of victims) child.kill('SIGKILL');
  });

  it('leaves nothing allocated', async function () {
    this.timeout(Math.max(this.timeout(), 30_000 + kills * 10_000));
    const next = random(seed);
    for (let done = 0; done < kills; done += AT_ONCE) {
      const count = Math.min(AT_ONCE, kills - done);
      for (const child of await Promise.all(Array.from({ length: count }, victim))) {
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
