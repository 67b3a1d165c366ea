// SPDX-License-Identifier: MIT
/**
 * What fails by itself when there is no more of it: contiguous memory (CMA), carveouts, and bounce buffers for devices
 * that cannot reach a page, which `swiotlb=512,force` makes all of them.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { type DmaBuf, openHeap } from 'dmabuf';
import { vgemCard } from '../guest/drivers.ts';
import {
  allCounters,
  cmaMemory,
  describeModules,
  eventually,
  idleCounters,
  largestBlock,
  leavesNoPage,
  load,
  PAGE,
  program,
  refuses,
  unload,
} from '../guest/support.ts';

const MIB = 2 ** 20;
/** With more CMA than this it takes too long to use it all up. */
const MOST_CMA = 64 * MIB;

/** The loss of one piece may be an accident. */
const REFUSALS = 2;

const SWIOTLB = '/sys/kernel/debug/swiotlb';
const SLOT = 2048;
/** With more of them vgem could not use them up with the buffers exhaust.c makes. */
const MOST_BOUNCE = MIB;

const isNoMemory = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOMEM';

/** Allocates until it fails for lack of memory. */
function allocateAll(into: DmaBuf[], alloc: () => DmaBuf): number {
  for (let count = 0; ; count++) {
    const before = allCounters();
    try {
      into.push(alloc());
    } catch (error) {
      assert(isNoMemory(error), String(error));
      assert.deepEqual(allCounters(), before);
      return count;
    }
  }
}

describeModules('contiguous memory that is used up', () => {
  const { total } = cmaMemory();
  if (total === 0 || total > MOST_CMA) {
    it(`needs a CMA area of ${MOST_CMA / MIB} MiB at most, here it is ${total / MIB} MiB: --cma 32`);
    return;
  }

  // Too large for the page allocator.
  const large = 2 * largestBlock();

  const names = { ion: 'ion_dma_heap', 'cma-mem': 'cma_mem', 'dma-heap': 'reserved' } as const;
  const open = (kind: keyof typeof names) => openHeap(kind, { heap: names[kind] });

  for (const [kind, other] of [
    ['ion', 'cma-mem'],
    ['cma-mem', 'dma-heap'],
    ['dma-heap', 'ion'],
  ] as const) {
    it(`${kind} says so, and has all of it again when it is given back`, async () => {
      await leavesNoPage(() => {
        using heap = open(kind);
        using second = open(other);
        const held: DmaBuf[] = [];
        try {
          const pieces = allocateAll(held, () => heap.allocSync(large));
          assert(pieces > 0, `not even one piece of ${large} bytes`);

          // What is left is in smaller pieces, or in none: then those of the page allocator are taken.
          const piece = 64 * 1024;
          const before = cmaMemory().free;
          const most = before / piece + 64;
          while (held.length < pieces + most) held.push(heap.allocSync(piece));
          const { free } = cmaMemory();
          assert(free <= before / 2, `${free} bytes of CMA are free, before the smaller pieces ${before}`);
          const scattered = held.at(-1);
          assert(scattered);
          scattered.write((bytes) => bytes.fill(0x5a));
          assert(scattered.read((bytes) => bytes.every((byte) => byte === 0x5a)));
          held.push(heap.allocSync(piece), second.allocSync(piece));

          // Nobody gets a large piece, and failing changes nothing.
          for (const one of [heap, second]) {
            const counters = allCounters();
            assert.throws(() => one.allocSync(large), isNoMemory);
            assert.deepEqual(allCounters(), counters);
          }

          for (const buffer of held.splice(0)) buffer.close();
          // One page that cannot be moved out of the way is enough to spoil a piece.
          const again = allocateAll(held, () => second.allocSync(large));
          assert(again >= pieces - 1, `${pieces} pieces, then ${again}`);
        } finally {
          for (const buffer of held) buffer.close();
        }
      });
    });
  }
});

describeModules('carveouts that cannot be had', () => {
  const { total } = cmaMemory();
  if (total === 0 || total > MOST_CMA) {
    it(`need a CMA area of ${MOST_CMA / MIB} MiB at most, here it is ${total / MIB} MiB: --cma 32`);
    return;
  }
  const large = 2 * largestBlock();

  before(() => unload('ion_lite'));
  after(() => load('ion_lite'));

  /** How many large pieces of CMA there are. */
  function pieces(): number {
    using heap = openHeap('cma-mem');
    const held: DmaBuf[] = [];
    try {
      return allocateAll(held, () => heap.allocSync(large));
    } finally {
      for (const buffer of held) buffer.close();
    }
  }

  const no = (entry: number, name: string) =>
    new RegExp(
      `ion_lite: heaps=: entry ${entry}, ${name}: there is no such piece of free memory( for it and those before it)?$`,
    );

  for (const [what, heaps, why] of [
    ['more than there is', `1:carveout:a:${total + large}`, no(1, 'a')],
    ['neighbours that are more than there is', `1:carveout:a:${large},2:protected:b:${total}`, no(2, 'b')],
    ['the second of two', `1:carveout:a:${large},2:system:s,3:carveout:b:${total}`, no(3, 'b')],
  ] as [string, string, RegExp][]) {
    it(`${what}: the table is refused each time, and CMA is as it was`, async () => {
      await leavesNoPage(() => {
        const before = pieces();
        assert(before > 0);
        // What one refusal left behind, a later one would lack.
        for (let time = 0; time < REFUSALS; time++) refuses('ion_lite', `heaps=${heaps}`, why);
        // One page that cannot be moved out of the way is enough to spoil a piece.
        const after = pieces();
        assert(after >= before - 1, `${before} pieces, then ${after}`);
      });
    });
  }

  it('where others have all of it: the table is refused, and works when they gave it back', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('cma-mem');
      const held: DmaBuf[] = [];
      const table = `heaps=1:system:s,2:carveout:a:${large}`;
      try {
        allocateAll(held, () => heap.allocSync(large));
        refuses('ion_lite', table, no(2, 'a'));
      } finally {
        for (const buffer of held) buffer.close();
      }
      load('ion_lite', table);
      try {
        using carveout = openHeap('ion', { heap: 'a' });
        using whole = carveout.allocSync(large);
        assert.equal(whole.size, large);
      } finally {
        unload('ion_lite');
      }
    });
  });

  it('a carveout that is used up says so, while others go on, and has all of it again', async () => {
    const size = 32 * PAGE;
    load('ion_lite', `heaps=2:carveout:a:${size},3:carveout:b:${size},0:system:s`);
    try {
      await leavesNoPage(async () => {
        using first = openHeap('ion', { heap: 'a' });
        using second = openHeap('ion', { heap: 'b' });
        for (let round = 0; round < 3; round++) {
          const held: DmaBuf[] = [];
          try {
            // Pieces of all sizes, as many as there is room for.
            for (let pages = 8; pages > 0; pages--) allocateAll(held, () => first.allocSync(pages * PAGE));
            assert.equal(first.stats().bytes, size);
            assert.equal(first.stats().largestFree, 0);
            using neighbour = second.allocSync(size);
            neighbour.write((bytes) => bytes.fill(0xa5));
            for (const [i, buffer] of held.entries()) buffer.write((bytes) => bytes.fill(i + 1));
            for (const [i, buffer] of held.entries())
              assert(buffer.read((bytes) => bytes.every((byte) => byte === i + 1)));
            assert(neighbour.read((bytes) => bytes.every((byte) => byte === 0xa5)));
          } finally {
            for (const buffer of held) buffer.close();
          }
          await eventually(() => assert.equal(first.stats().largestFree, size));
        }
      });
    } finally {
      unload('ion_lite');
    }
  });
});

describeModules('bounce buffers that are used up', () => {
  const { path, missing } = program('exhaust');
  const number = (name: string) => Number(readFileSync(`${SWIOTLB}/${name}`, 'utf8'));
  const bytes = existsSync(`${SWIOTLB}/io_tlb_nslabs`) ? number('io_tlb_nslabs') * SLOT : 0;
  const forced = /\bswiotlb=\S*force\b/.test(readFileSync('/proc/cmdline', 'utf8'));
  if (missing !== undefined || !forced || bytes === 0 || bytes > MOST_BOUNCE) {
    it(missing ?? `needs at most ${MOST_BOUNCE / SLOT} slots of them and all of DMA: --append swiotlb=512,force`);
    return;
  }

  before(() => {
    load('vgem');
    unload('ion_lite');
    const heaps = 'heaps=4:dma:ion_dma_heap,1:system_contig:contig,0:system:system,2:carveout:carveout:1M';
    load('ion_lite', heaps, 'legacy_abi=1');
  });

  after(async () => {
    await eventually(() => unload('vgem'));
    await eventually(() => unload('ion_lite'));
    load('ion_lite');
  });

  it('no buffer is mapped without them, nor allocated if its caches are written back, and all is well again with some', async () => {
    const used = number('io_tlb_used');
    // It may block in the kernel: then this test has to be able to say so.
    const { stdout } = await promisify(execFile)(path, [vgemCard()]);
    const said = JSON.parse(stdout) as Record<string, number>;
    const { imported = 0, slots = 0 } = said;
    // All but what does not make a page.
    const pages = Math.floor((slots * SLOT) / PAGE);
    assert(imported > 0 && imported >= pages - 1, JSON.stringify(said));
    assert.equal(number('io_tlb_used'), used);
    await eventually(() => assert.deepEqual(allCounters(), idleCounters));
  });
});
