// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { openHeap } from 'dmabuf';
import { collect } from '../support.ts';
import { allCounters, cmaMemory, describeModules, idleCounters, memory, PAGE } from './support.ts';

/** Fewer where each takes long. */
const { DMABUF_ROUNDS = '10000' } = process.env;
const rounds = Number(DMABUF_ROUNDS);

/**
 * KiB that may be missing. One page lost in each round of a heap would be 13,000, of all heaps 40,000.
 * Tolerated are slabs, and pages of programs and files, which the kernel puts into CMA while nobody
 * else wants that.
 */
const TOLERATED = 8192;

/** Sizes of a page and of a mebibyte, most of them small: a fixed sequence, the same each run. */
function* sizes(): Generator<number, never> {
  for (let seed = 1; ; ) {
    seed = (seed * 48271) % 0x7fffffff;
    const exponent = 8 + (seed % 10);
    yield seed % 512 === 0 ? 1 << 20 : 1 + (seed % (1 << exponent));
  }
}

/** KiB of free pages that each processor keeps to itself: tens of MiB, which MemFree leaves out. */
function keptByProcessors(): number {
  const counts = readFileSync('/proc/zoneinfo', 'utf8').matchAll(/^ +count: +(\d+)$/gm);
  return [...counts].reduce((pages, [, count]) => pages + Number(count), 0) * (PAGE / 1024);
}

/** KiB a new allocation could have, and what the page cache holds and gives back. */
function free(): { memory: number; cma: number } {
  const cache = memory('Cached') + memory('SReclaimable');
  return { memory: memory('MemFree') + keptByProcessors() + cache, cma: cmaMemory().free / 1024 };
}

/** Resident memory of this process, in KiB, which the kernel counts as used. */
const own = () => Math.round(process.memoryUsage.rss() / 1024);

describeModules(`${rounds.toLocaleString('en')} allocations and closes of mixed size in one process`, () => {
  it('end with the same number of descriptors and the same free memory as before', async function () {
    this.timeout(Math.max(this.timeout(), 300_000));
    const heaps = [
      openHeap('ion', { heap: 'ion_system_heap' }),
      openHeap('ion', { heap: 'ion_dma_heap' }),
      openHeap('cma-mem'),
    ];
    const length = sizes();

    async function run(count: number): Promise<void> {
      for (let round = 0; round < count; round++) {
        const heap = heaps[round % heaps.length] as (typeof heaps)[0];
        const cached = round % 4 !== 1;
        // A promise costs a turn of the thread pool: not for each.
        using buffer =
          round % 16 === 0
            ? await heap.alloc(length.next().value, { cached })
            : heap.allocSync(length.next().value, { cached });
        if (round % 8 === 0) {
          using mapping = buffer.map();
          new Uint8Array(mapping.buffer)[buffer.length - 1] = 1;
        }
      }
    }

    // What node and the kernel keep for later use is there after these.
    await run(500);
    await collect();
    const fds = readdirSync('/proc/self/fd').length;
    const before = free();
    const ownBefore = own();

    await run(rounds);
    await collect();
    for (const heap of heaps) heap.close();

    assert.equal(readdirSync('/proc/self/fd').length, fds - heaps.length);
    assert.deepEqual(allCounters(), idleCounters);
    const after = free();
    const lost = before.memory - after.memory - (own() - ownBefore);
    assert(lost < TOLERATED, `${lost} KiB are missing: ${JSON.stringify({ before, after })}`);
    assert(before.cma - after.cma < TOLERATED, `${before.cma - after.cma} KiB of CMA are missing`);
  });
});
