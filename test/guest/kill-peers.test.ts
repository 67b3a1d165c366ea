// SPDX-License-Identifier: MIT
/**
 * Two Node processes that hand buffers to each other, by sockets and pools, and of which one or both are killed at
 * random moments. DMABUF_KILLS says how many times (default 10), DMABUF_SEED repeats the moments of an earlier run.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { allCounters, childScript, describeModules, eventually, idleCounters, random } from './support.ts';

const { DMABUF_KILLS, DMABUF_SEED } = process.env;
const kills = Number(DMABUF_KILLS ?? 10);
const seed = Number(DMABUF_SEED ?? Date.now() % 1_000_000);

/** Latest moment, in ms after both are at work, or after the second was started. */
const LATEST_MS = 250;
/** The second may be starting when the first is killed, and ends only then. */
const PATIENCE_MS = 60_000;

/** children/lender.mjs and its own child. */
class Lender implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  /** what the modules have handed out for its pools alone */
  resting: ReturnType<typeof allCounters> = {};
  #taker = 0;

  private constructor() {
    this.#child = spawn(process.execPath, [childScript('lender.mjs')], { stdio: ['pipe', 'pipe', 'inherit'] });
    assert(this.#child.stdout);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  static async start(): Promise<Lender> {
    const lender = new Lender();
    await lender.says(/^ready$/);
    lender.resting = allCounters();
    return lender;
  }

  async says(what: RegExp): Promise<RegExpExecArray> {
    const { value = 'nothing, and ended' } = await this.#lines.next();
    const found = what.exec(value);
    assert(found, `it said ${value} and not ${what}`);
    return found;
  }

  /** Starts the other one; resolves when that is started, or has received something. */
  async begin(whenBusy: boolean): Promise<void> {
    this.#child.stdin?.write('next\n');
    this.#taker = Number((await this.says(/^started (\d+)$/))[1]);
    if (whenBusy) await this.says(/^busy$/);
  }

  killTaker(): void {
    process.kill(this.#taker, 'SIGKILL');
  }

  async kill(): Promise<void> {
    assert.deepEqual([this.#child.exitCode, this.#child.signalCode], [null, null], 'it ended by itself');
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    assert.deepEqual(await ended, [null, 'SIGKILL']);
  }

  /** All that is home again after the other one was killed. */
  async home(): Promise<void> {
    for (;;) {
      // It may have become busy at the last moment.
      const [said] = await this.says(/^(home|busy)$/);
      if (said === 'home') return;
    }
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}

describeModules(`two Node processes of which some are killed (${kills} times, DMABUF_SEED=${seed})`, () => {
  it('leave no buffer, and what was lent is home', async function () {
    this.timeout(Math.max(this.timeout(), 60_000 + kills * 30_000));
    const next = random(seed);
    const seen = { lender: 0, taker: 0, both: 0, busy: 0 };
    let lender: Lender | undefined;
    try {
      for (let done = 0; done < kills; done++) {
        lender ??= await Lender.start();
        const victim = (['lender', 'taker', 'taker', 'both'] as const)[Math.floor(next() * 4)] ?? 'both';
        const whenBusy = next() < 0.6;
        const moment = next() * LATEST_MS;
        await lender.begin(whenBusy);
        await sleep(moment);
        seen[victim]++;
        seen.busy += whenBusy ? 1 : 0;
        const what = `${victim} killed ${moment} ms after ${whenBusy ? 'both were at work' : 'the second was started'}`;
        if (victim === 'taker') {
          lender.killTaker();
          await lender.home();
          const { resting } = lender;
          await eventually(() => assert.deepEqual(allCounters(), resting, what), PATIENCE_MS);
          continue;
        }
        if (victim === 'both') lender.killTaker();
        await lender.kill();
        lender = undefined;
        await eventually(() => assert.deepEqual(allCounters(), idleCounters, what), PATIENCE_MS);
      }
    } finally {
      lender?.[Symbol.dispose]();
    }
    await eventually(() => assert.deepEqual(allCounters(), idleCounters), PATIENCE_MS);
    if (kills >= 50)
      assert(
        Object.values(seen).every((count) => count > 0),
        JSON.stringify(seen),
      );
  });
});
