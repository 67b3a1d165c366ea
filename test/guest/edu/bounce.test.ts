// SPDX-License-Identifier: MIT
/**
 * Devices whose memory bounces, in a guest with `swiotlb=65536,force`: what a device sees of a buffer is a copy, which
 * only a bracket of DMA_BUF_IOCTL_SYNC keeps in step, as caches are on real machines. Each test leaves out a bracket
 * first, and sees old bytes.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { CmaMem, type DmaBuf } from 'dmabuf';
import { describeEdus, EduProcess, holds, pattern } from '../edu.ts';
import { everyHeapTable } from '../ion.ts';
import { called, filled, memories, scattered } from '../memories.ts';
import { leavesNoPage, PAGE, suiteWithParameters } from '../support.ts';

const forced = /\bswiotlb=65536,force\b/.test(readFileSync('/proc/cmdline', 'utf8'));

/** A bracket of the CPU's that does nothing. */
const bracket = (buffer: DmaBuf) => buffer.write(() => {});

/** The first bytes, as a mapping shows them without a bracket. */
function unsynced(buffer: DmaBuf, length: number): Buffer {
  using mapping = buffer.map();
  return Buffer.from(new Uint8Array(mapping.buffer, 0, length));
}

/** Writes to the first bytes without a bracket. */
function writeUnsynced(buffer: DmaBuf, contents: Uint8Array): void {
  using mapping = buffer.map();
  new Uint8Array(mapping.buffer).set(contents);
}

/** Heaps of ION and others; those that are left out have the same memory, or udmabuf's, which is never in step. */
const kept = ['the_system', 'the_dma', 'cma_mem', 'system', 'reserved'];

describeEdus('a device whose memory bounces', (first, second) => {
  if (!forced) {
    it('needs bounce buffers for all of DMA: --append swiotlb=65536,force');
    return;
  }
  suiteWithParameters('ion', everyHeapTable);

  const LENGTH = 1999;
  const [before, after] = [pattern(PAGE, 1), pattern(PAGE, 2)];

  for (const memory of memories.filter(({ name }) => kept.includes(name))) {
    it(`is kept in step with ${called(memory)}, by brackets and by nothing else`, async () => {
      await leavesNoPage(async () => {
        using from = filled(memory, before);
        using to = filled(memory, new Uint8Array(PAGE));
        await using edu = new EduProcess(from, to);
        const reads = await edu.import(from, first);
        const frames = await reads.pages();
        const seen = await reads.map('to-device');
        assert(!frames.some((frame) => seen.pages.includes(frame)), 'the device sees the pages themselves');
        const writes = await edu.mapped(to, first, 'from-device', 'dynamic');

        writeUnsynced(from, after);
        await reads.copy(0, writes, 0, LENGTH);
        assert.deepEqual(unsynced(to, LENGTH), Buffer.alloc(LENGTH), 'there is nothing to be kept in step');
        const expected = new Uint8Array(PAGE);
        expected.set(before.subarray(0, LENGTH));
        holds(to, expected);

        bracket(from);
        await reads.copy(1, writes, PAGE - LENGTH, LENGTH);
        expected.set(after.subarray(1, LENGTH + 1), PAGE - LENGTH);
        holds(to, expected);
        holds(from, after);
      });
    });
  }

  it('is kept in step with regions of cma_mem by CMEM_CACHE_FLUSH, as by brackets', async () => {
    await leavesNoPage(async () => {
      using cma = CmaMem.open();
      for (const cached of [true, false]) {
        using read = cma.allocateSync(PAGE, { cached });
        using written = cma.allocateSync(PAGE, { cached });
        using from = read.export();
        using to = written.export();
        await using edu = new EduProcess(from, to);
        const reads = await edu.mapped(from, first, 'to-device');
        const writes = await edu.mapped(to, first, 'from-device');
        writeUnsynced(from, after);
        await reads.copy(0, writes, 0, 1);
        // Of all of it, whatever part is said.
        read.flush({ offset: PAGE - 1 });
        await reads.copy(0, writes, 1, LENGTH);
        assert.deepEqual(unsynced(to, LENGTH + 1), Buffer.alloc(LENGTH + 1));
        written.flush({ length: 1 });
        assert.deepEqual(unsynced(to, LENGTH + 1), Buffer.concat([Buffer.alloc(1), after.subarray(0, LENGTH)]));
      }
    });
  });

  it("is kept in step with the kernel's CPU, too", async () => {
    await leavesNoPage(async () => {
      using from = scattered(before);
      using to = scattered(new Uint8Array(PAGE));
      await using edu = new EduProcess(from, to);
      const reads = await edu.mapped(from, first, 'to-device');
      const writes = await edu.mapped(to, first, 'from-device');
      await reads.write(0, Buffer.from(after.subarray(0, 8)), 'unsynced');
      await reads.write(8, Buffer.from(after.subarray(8, 16)), 'synced');
      await reads.write(16, Buffer.from(after.subarray(16, 24)), 'unsynced');
      await reads.copy(0, writes, 0, 24);
      assert.deepEqual(await writes.read(0, 24, 'unsynced'), Buffer.alloc(24));
      // What was there at the last bracket.
      const expected = Buffer.concat([after.subarray(0, 16), before.subarray(16, 24)]);
      assert.deepEqual(await writes.read(0, 24, 'synced'), expected);
    });
  });

  it('hands over to another in a bracket', async () => {
    await leavesNoPage(async () => {
      using from = scattered(after);
      using shared = scattered(before);
      using to = scattered(new Uint8Array(PAGE));
      await using edu = new EduProcess(from, shared, to);
      const source = await edu.mapped(from, first, 'to-device');
      const writer = await edu.mapped(shared, first, 'from-device');
      const reader = await edu.mapped(shared, second, 'to-device');
      const target = await edu.mapped(to, second, 'from-device');
      await source.copy(0, writer, 0, 1);
      await reader.copy(0, target, 0, 1);
      bracket(shared);
      await reader.copy(0, target, 1, 1);
      const expected = new Uint8Array(PAGE);
      expected.set([before[0] as number, after[0] as number]);
      holds(to, expected);
    });
  });

  it('is in step where it is mapped, and where it is no more', async () => {
    await leavesNoPage(async () => {
      using from = scattered(before);
      using to = scattered(new Uint8Array(PAGE));
      await using edu = new EduProcess(from, to);
      writeUnsynced(from, after);
      const reads = await edu.mapped(from, first, 'to-device');
      const writes = await edu.mapped(to, first, 'from-device');
      await reads.copy(0, writes, 0, LENGTH);
      await writes.unmap();
      assert.deepEqual(unsynced(to, LENGTH), Buffer.from(after.subarray(0, LENGTH)));
    });
  });
});
