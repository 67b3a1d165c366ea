// SPDX-License-Identifier: MIT
/**
 * Buffers in the hands of a device with a DMA engine of its own: QEMU's edu, driven by
 * kernel-modules/selftest/edu_importer.c. A transfer takes 100 ms, so each test has few.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { CmaMem, Exporter } from 'dmabuf';
import { behindIommu, describeEdus, driver, EduProcess, holds, MAX_SEGMENT, pattern, pieces, WINDOW } from './edu.ts';
import { everyHeapTable } from './ion.ts';
import { allocate, called, filled, type Memory, memories, scattered } from './memories.ts';
import { eventually, hasOwnDmaHeaps, leavesNoPage, PAGE, suiteWithParameters } from './support.ts';

/** What the CPU may see. Not cached is the same memory in another mapping: once for each kind will do. */
const visible = memories.filter(
  ({ protected: secured, cached, name }) => !secured && (cached || ['the_system', 'cma_mem'].includes(name)),
);

/** Of the kernel's own heaps, which are here for comparison: they do not ask what a device takes at a time. */
const ofTheKernel = ({ kind }: Memory) => kind === 'udmabuf' || (kind === 'dma-heap' && hasOwnDmaHeaps());

describeEdus('a device that does DMA', (first, second) => {
  suiteWithParameters('ion', everyHeapTable);

  for (const memory of visible) {
    it(`copies bytes of ${called(memory)}, into another buffer, and no others`, async () => {
      await leavesNoPage(async () => {
        const length = 3 * PAGE - 5;
        const source = pattern(length, 1);
        const expected = pattern(length, 101);
        using from = filled(memory, source);
        using to = filled(memory, expected);
        await using edu = new EduProcess(from, to);
        const reads = await edu.mapped(from, first, 'to-device', 'dynamic');
        const writes = await edu.mapped(to, first, 'from-device', 'static');
        for (const [offset, toOffset, count] of [
          // odd, and over the end of a page on both sides
          [PAGE - 1001, 2 * PAGE - 7, WINDOW - 1],
          // the first byte and the last one
          [0, length - 1, 1],
          [length - 1, 0, 1],
        ] as const) {
          await reads.copy(offset, writes, toOffset, count);
          expected.set(source.subarray(offset, offset + count), toOffset);
        }
        holds(to, expected);
        holds(from, source);
      });
    });
  }

  for (const memory of memories.filter((memory) => memory.protected && memory.cached)) {
    it(`has bytes of ${called(memory)}, which the CPU may not see`, async () => {
      await leavesNoPage(async () => {
        const source = pattern(PAGE, 2);
        using from = scattered(source);
        using hidden = allocate(memory, 2 * PAGE);
        using to = scattered(new Uint8Array(PAGE));
        assert.throws(() => hidden.map(), { code: 'EPERM' });
        await using edu = new EduProcess(from, hidden, to);
        const [reads, both, writes] = [
          await edu.mapped(from, first, 'to-device'),
          await edu.mapped(hidden, first, 'both'),
          await edu.mapped(to, first, 'from-device'),
        ];
        await reads.copy(1, both, PAGE - 5, 1001);
        await both.copy(PAGE - 5, writes, 3, 1001);
        const expected = new Uint8Array(PAGE);
        expected.set(source.subarray(1, 1002), 3);
        holds(to, expected);
      });
    });
  }

  it('reads what the exporter says', async () => {
    await leavesNoPage(async () => {
      using exporter = Exporter.open();
      using text = exporter.buffer();
      using to = scattered(new Uint8Array(PAGE));
      await using edu = new EduProcess(text, to);
      const reads = await edu.mapped(text, first, 'to-device');
      await reads.copy(0, await edu.mapped(to, first, 'from-device'), 0, 12);
      assert.equal(
        to.read((bytes) => Buffer.from(bytes).toString('latin1', 0, 12)),
        'hello world\0',
      );
    });
  });

  for (const memory of visible) {
    it(`sees the pages of ${called(memory)}, and so does the kernel's CPU, which reads and writes them`, async () => {
      await leavesNoPage(async () => {
        using buffer = allocate(memory, 3 * MAX_SEGMENT + PAGE);
        await using edu = new EduProcess(buffer);
        for (const how of ['static', 'dynamic'] as const) {
          const imported = await edu.import(buffer, first, how);
          const frames = await imported.pages();
          // An IOMMU has addresses of its own for them.
          const check = (pages: number[]) =>
            behindIommu(first) ? assert.equal(pieces(pages), 1) : assert.deepEqual(pages, frames);
          const { pages, segments } = await imported.map('both');
          check(pages);
          if (!ofTheKernel(memory)) {
            assert(Math.max(...segments) <= MAX_SEGMENT, `${segments}`);
            if (memory.contiguous) assert.equal(segments.length, 4);
          }
          await imported.unmap();
          // As often as one likes.
          check((await imported.map('both')).pages);
          await imported.close();
        }
        const imported = await edu.mapped(buffer, first, 'both');
        const contents = new Uint8Array(buffer.size);
        const [ours, theirs] = [pattern(1999, 3), pattern(1001, 4)];
        buffer.write((bytes) => bytes.set(ours, MAX_SEGMENT - 1000));
        contents.set(ours, MAX_SEGMENT - 1000);
        assert.deepEqual(await imported.read(MAX_SEGMENT - 1000, 1999), Buffer.from(ours));
        await imported.write(PAGE - 500, Buffer.from(theirs));
        contents.set(theirs, PAGE - 500);
        holds(buffer, contents);
      });
    });
  }

  it('sees the pages of a region of cma_mem follow each other, from the address that root is told', async () => {
    await leavesNoPage(async () => {
      using cma = CmaMem.open();
      for (const cached of [true, false]) {
        using region = cma.allocateSync(16 * PAGE, { cached });
        using buffer = region.export();
        await using edu = new EduProcess(buffer);
        const pages = await (await edu.import(buffer, first)).pages();
        assert.deepEqual(
          pages,
          pages.map((_, i) => region.physicalBase / PAGE + i),
        );
        assert.equal(pages.length, 16);
      }
    });
  });

  it('shares a buffer with another device: what one writes the other reads', async () => {
    await leavesNoPage(async () => {
      const source = pattern(PAGE, 5);
      using from = scattered(source);
      using shared = scattered(new Uint8Array(2 * PAGE));
      using to = scattered(new Uint8Array(PAGE));
      await using edu = new EduProcess(from, shared, to);
      const writer = await edu.mapped(shared, first, 'from-device', 'dynamic');
      const reader = await edu.mapped(shared, second, 'to-device');
      await (await edu.mapped(from, first, 'to-device')).copy(0, writer, PAGE - 7, 1999);
      // Each hands over in a bracket.
      shared.read(() => {});
      await reader.copy(PAGE - 7, await edu.mapped(to, second, 'from-device'), 11, 1999);
      const expected = new Uint8Array(PAGE);
      expected.set(source.subarray(0, 1999), 11);
      holds(to, expected);
    });
  });

  it('has a driver that maps a buffer by a file of its own, to write only where the buffer may be written', async () => {
    await leavesNoPage(async () => {
      using cma = CmaMem.open();
      using region = cma.allocateSync(PAGE);
      using shared = region.export();
      using shown = region.export({ readonly: true });
      await using edu = new EduProcess(shared, shown);
      const writable = await edu.import(shared, first);
      const readable = await edu.import(shown, second);
      await writable.mmap('write');
      await writable.mmap('read');
      await assert.rejects(readable.mmap('write'), { code: 'EACCES', syscall: 'mmap' });
      await assert.rejects(readable.mmap('read'), { code: 'EACCES', syscall: 'mprotect' });
      shared.read(([byte]) => assert.equal(byte, 1));
    });
  });

  it('lets go of a buffer that a program has mapped, which keeps what was written', async () => {
    await leavesNoPage(async () => {
      const source = pattern(PAGE, 6);
      using from = scattered(source);
      using to = scattered(new Uint8Array(PAGE));
      using mapping = to.map();
      {
        await using edu = new EduProcess(from, to);
        const writes = await edu.mapped(to, first, 'from-device');
        await (await edu.mapped(from, first, 'to-device')).copy(0, writes, 0, WINDOW);
        await writes.close();
        // In step with the device since it was unmapped: no bracket is needed.
        const expected = Buffer.alloc(PAGE);
        expected.set(source.subarray(0, WINDOW));
        assert.deepEqual(Buffer.from(mapping.buffer), expected);
        new Uint8Array(mapping.buffer).fill(7);
      }
      holds(to, new Uint8Array(PAGE).fill(7));
    });
  });

  it('is used by the next program where one was killed in the middle of a transfer', async () => {
    await leavesNoPage(async () => {
      const source = pattern(16 * PAGE, 7).fill(8, 0, 1);
      using from = scattered(source);
      using to = scattered(new Uint8Array(source.length));
      {
        await using edu = new EduProcess(from, to);
        const reads = await edu.mapped(from, first, 'to-device');
        const writes = await edu.mapped(to, first, 'from-device');
        const stopped = assert.rejects(reads.copy(0, writes, 0, source.length), /the process has ended at copy/);
        // Of all the time it takes the device is idle for next to nothing.
        await eventually(
          () =>
            assert.equal(
              to.read(([byte]) => byte),
              8,
            ),
          30_000,
        );
        await edu.kill();
        await stopped;
        // Nothing is under way any more: what it was about to write it has written, or never will.
        const after = Buffer.from(to.copy());
        assert(!after.equals(Buffer.from(source)), 'it was not killed in the middle');
        await sleep(250);
        assert(Buffer.from(to.copy()).equals(after), 'the device went on after the process was gone');
      }
      await using edu = new EduProcess(from, to);
      const writes = await edu.mapped(to, first, 'from-device');
      await (await edu.mapped(from, first, 'to-device')).copy(0, writes, to.size - WINDOW, WINDOW);
      assert.deepEqual(
        to.read((bytes) => Buffer.from(bytes.subarray(-WINDOW))),
        Buffer.from(source.subarray(0, WINDOW)),
      );
    });
  });

  for (const how of ['static', 'dynamic'] as const) {
    it(`is taken from its driver while buffers are attached, ${how === 'static' ? 'for good' : 'pinned'}`, async () => {
      await leavesNoPage(async () => {
        using buffer = scattered(new Uint8Array(2 * PAGE));
        using other = scattered(new Uint8Array(PAGE));
        await using edu = new EduProcess(buffer, other);
        const taken = await edu.mapped(buffer, first, 'both', how);
        const unmapped = await edu.import(other, first, how);
        const kept = await edu.mapped(buffer, second, 'both', how);
        const contents = pattern(buffer.size, 9);
        try {
          driver('unbind', first);
          await assert.rejects(taken.copy(0, taken, PAGE, 1), { code: 'ENODEV' });
          await assert.rejects(taken.unmap(), { code: 'ENODEV' });
          await assert.rejects(unmapped.map('both'), { code: 'ENODEV' });
          // Everybody else goes on.
          buffer.write((bytes) => bytes.set(contents));
          await kept.copy(1, kept, PAGE, 3);
          contents.copyWithin(PAGE, 1, 4);
          holds(buffer, contents);
        } finally {
          driver('bind', first);
        }
        // It is another device to what was open.
        await assert.rejects(taken.unmap(), { code: 'ENODEV' });
        await edu.mapped(other, first, 'both', how);
      });
    });
  }

  it('has a driver that refuses what does not fit, and what was not mapped for it', async () => {
    await leavesNoPage(async () => {
      using buffer = scattered(new Uint8Array(2 * PAGE));
      using other = scattered(new Uint8Array(PAGE));
      await using edu = new EduProcess(buffer, other);
      const imported = await edu.import(buffer, first);
      await assert.rejects(imported.copy(0, imported, 0, 1), { code: 'EINVAL', syscall: 'EDU_IOC_TRANSFER' });
      await assert.rejects(imported.unmap(), { code: 'EINVAL' });
      await assert.rejects(edu.call('map', imported.number, 3), { code: 'EINVAL' });
      await imported.map('from-device');
      await assert.rejects(imported.map('both'), { code: 'EBUSY' });
      await assert.rejects(edu.call('import', imported.number, '/nowhere', 4, 'static'), {
        code: 'EBUSY',
        syscall: 'EDU_IOC_IMPORT',
      });
      await assert.rejects(imported.copy(0, imported, 0, 1), { code: 'EINVAL' }, 'it is not mapped for reading');
      await imported.unmap();
      await imported.map('both');
      for (const [offset, length] of [
        [2 * PAGE, 1],
        [2 * PAGE - 1, 2],
        [2 ** 53, 1],
        [0, 0],
      ] as const) {
        await assert.rejects(imported.copy(offset, imported, 0, length), { code: 'EINVAL' }, `${length} at ${offset}`);
        await assert.rejects(imported.read(offset, length), { code: 'EINVAL' }, `${length} at ${offset}`);
      }
      await assert.rejects(edu.call('import', 9, `/dev/edu_importer-${first}`, 0, 'static'), { code: 'EINVAL' });
      await assert.rejects(edu.call('import', 9, `/dev/edu_importer-${first}`, 99, 'static'), { code: 'EBADF' });
    });
  });
});
