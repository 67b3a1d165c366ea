// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { CmaMem, type DmaBuf, openHeap } from 'dmabuf';
import * as abi from './abi.ts';
import { allocate, exportRegion, withCma } from './cma.ts';
import {
  cmaMemory,
  counters,
  describeModules,
  fdinfo,
  idleCounters,
  largestBlock,
  leavesNoPage,
  noPiece,
  PAGE,
  systemErrorOf,
  wholePages,
} from './support.ts';
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  O_CLOEXEC,
  O_RDONLY,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
  SEEK_END,
  type Syscalls,
} from './syscalls.ts';

const { CMEM_ALLOCATE, CMEM_IOC_ALLOC, CMEM_IOC_EXPORT, cmaAlloc, cmaExport, cmaInfo } = abi;

const nobody = 65534;
const frame = 800 * 480 * 4;

/** Zeroed memory of the process itself. */
const ownMemory = (process: Syscalls): Promise<number> =>
  process.must('mmap', PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

describeModules('cma_mem', () => {
  describe('regions', () => {
    it('show one memory through the device and through their dma-bufs', async () => {
      await leavesNoPage(async () => {
        using cma = CmaMem.open();
        const region = await cma.allocate(frame, { name: 'frame' });
        assert.equal(region.offset, 0);
        using device = region.map();
        using buffer = region.export();
        using mapping = buffer.map();
        assert.equal(buffer.size, wholePages(frame));
        const pixels = new Uint32Array(device.buffer);
        for (let index = 0; index < pixels.length; index++) pixels[index] = index;
        assert.deepEqual(Buffer.from(mapping.buffer).compare(Buffer.from(device.buffer)), 0);
        new Uint32Array(mapping.buffer)[frame / 4 - 1] = 0xc0ffee;
        assert.equal(pixels[frame / 4 - 1], 0xc0ffee);
        assert.deepEqual(counters('cma_mem'), { buffers: 1, bytes: wholePages(frame) });
      });
    });

    it('give their name to their dma-bufs', async () => {
      await leavesNoPage(() => {
        using cma = CmaMem.open();
        using buffer = cma.allocateSync(PAGE, { name: 'frame-7' }).export();
        assert.equal(fdinfo(buffer.fd, 'name'), 'frame-7');
        assert.equal(fdinfo(buffer.fd, 'exp_name'), 'cma_mem');
        assert.equal(buffer.name, 'frame-7');
      });
    });

    it('are mapped at offsets of their own', async () => {
      await leavesNoPage(() => {
        using cma = CmaMem.open();
        const regions = [1, PAGE + 1, frame].map((length) => cma.allocateSync(length));
        const mappings = regions.map((region) => region.map());
        for (const [index, mapping] of mappings.entries()) new Uint8Array(mapping.buffer).fill(index + 1);
        for (const [index, region] of regions.entries()) {
          using again = region.map({ length: region.length });
          assert(new Uint8Array(again.buffer).every((byte) => byte === index + 1));
        }
        for (const mapping of mappings) mapping.close();
        using page = (regions[2] as (typeof regions)[0]).map({ offset: 5 * PAGE, length: 8 });
        assert.equal(new Uint8Array(page.buffer)[7], 3);
      });
    });

    it('survive the device in a mapping', async () => {
      await leavesNoPage(() => {
        const cma = CmaMem.open();
        using mapping = cma.allocateSync(2 * PAGE).map();
        cma.close();
        assert.deepEqual(counters('cma_mem'), { buffers: 1, bytes: 2 * PAGE });
        const bytes = new Uint8Array(mapping.buffer);
        bytes.fill(5);
        assert.equal(bytes[2 * PAGE - 1], 5);
      });
    });

    it('survive the device in a dma-buf', async () => {
      await leavesNoPage(() => {
        const cma = CmaMem.open();
        const region = cma.allocateSync(2 * PAGE);
        const mapping = region.map();
        new Uint8Array(mapping.buffer).fill(6);
        mapping.close();
        using buffer = region.export();
        cma.close();
        assert.equal(
          buffer.read((bytes) => bytes[2 * PAGE - 1]),
          6,
        );
        assert.throws(() => region.map(), { code: 'ERR_DMABUF_CLOSED' });
        assert.throws(() => region.export(), { code: 'ERR_DMABUF_CLOSED' });
        assert.throws(() => cma.allocateSync(PAGE), { code: 'ERR_DMABUF_CLOSED' });
      });
    });

    it('are not there where the device was closed while they were allocated', async () => {
      await leavesNoPage(async () => {
        const cma = CmaMem.open();
        const region = cma.allocate(PAGE);
        cma.close();
        await assert.rejects(region, { code: 'ERR_DMABUF_CLOSED' });
      });
    });

    it('are mapped where they are, and say which part', async () => {
      await leavesNoPage(() => {
        using cma = CmaMem.open();
        using first = cma.allocateSync(PAGE);
        using second = cma.allocateSync(2 * PAGE);
        assert.equal(second.offset, first.size);
        using whole = second.map();
        using part = second.map({ offset: PAGE });
        assert.deepEqual([whole.offset, part.offset], [0, PAGE]);
        new Uint8Array(part.buffer)[0] = 7;
        assert.equal(new Uint8Array(whole.buffer)[PAGE], 7);
      });
    });

    it('are given up one by one, and their mappings and dma-bufs go on', async () => {
      await leavesNoPage(() => {
        using cma = CmaMem.open();
        const [first, second, third] = [PAGE, 2 * PAGE, PAGE].map((length) => cma.allocateSync(length));
        assert(first && second && third);
        using mapping = first.map();
        using buffer = second.export();
        new Uint8Array(mapping.buffer).fill(7);
        for (const region of [first, second, third]) {
          region.close();
          region.close();
          assert(region.closed);
          const closed = { code: 'ERR_DMABUF_CLOSED', message: /Region \d+ of \/dev\/cma_mem is closed/ };
          assert.throws(() => region.map(), { ...closed, syscall: 'mmap' });
          assert.throws(() => region.export(), { ...closed, syscall: 'ioctl' });
          assert.throws(() => region.flush(), { ...closed, syscall: 'ioctl' });
          assert.throws(() => cma.region(region.id), { code: 'EINVAL' });
        }
        assert.deepEqual(counters('cma_mem'), { buffers: 2, bytes: 3 * PAGE });
        assert.equal(new Uint8Array(mapping.buffer)[PAGE - 1], 7);
        assert.equal(buffer.size, 2 * PAGE);
        // its offset, and not its memory
        using again = cma.allocateSync(PAGE);
        using fresh = again.map();
        assert(new Uint8Array(fresh.buffer).every((byte) => byte === 0));
      });
    });

    it('are made read-only dma-bufs, which are copied from', async () => {
      await leavesNoPage(() => {
        using cma = CmaMem.open();
        using region = cma.allocateSync(PAGE);
        using mapping = region.map();
        new Uint8Array(mapping.buffer).fill(8);
        using buffer = region.export({ readonly: true, name: 'read' });
        assert.equal(Number(fdinfo(buffer.fd, 'flags')) % 10, O_RDONLY);
        assert.throws(() => buffer.map(), { code: 'EACCES' });
        assert(new Uint8Array(buffer.copy()).every((byte) => byte === 8));
      });
    });

    it('are flushed in any part, cached or not', async () => {
      await leavesNoPage(() => {
        using cma = CmaMem.open();
        for (const cached of [true, false]) {
          using region = cma.allocateSync(PAGE + 1, { cached });
          using mapping = region.map();
          new Uint8Array(mapping.buffer).fill(3);
          region.flush();
          region.flush({ offset: PAGE });
          region.flush({ offset: 5, length: 2 * PAGE - 5 });
          assert(new Uint8Array(mapping.buffer).every((byte) => byte === 3));
          for (const range of [{ offset: 2 * PAGE }, { offset: 1, length: 2 * PAGE }, { length: 0 }, { offset: -1 }]) {
            assert.throws(() => region.flush(range), { code: 'ERR_OUT_OF_RANGE' });
          }
        }
      });
    });

    it('are counted together with those of others', async () => {
      await leavesNoPage(() => {
        using cma = CmaMem.open();
        using other = CmaMem.open();
        const { total, free } = cma.totals();
        assert.equal(free, total);
        using _region = other.allocateSync(PAGE + 1);
        assert.deepEqual(cma.totals(), { total, free: total - 2 * PAGE });
      });
    });

    it('belong to a file, whoever has a descriptor of it', async () => {
      await leavesNoPage(() => {
        const cma = CmaMem.open();
        using region = cma.allocateSync(PAGE);
        // as if it had come from another process
        const copy = openSync(`/proc/self/fd/${cma.fd}`, 'r+');
        const strange = CmaMem.fromFd(copy);
        // opened anew it is a file of its own
        assert.throws(() => strange.region(region.id), { code: 'EINVAL' });
        strange.close();
        assert.throws(() => CmaMem.fromFd(cma.fd), {
          code: 'ERR_INVALID_ARG_VALUE',
          message: /belongs to an open object/,
        });
        assert.throws(() => CmaMem.fromFd(999), { code: 'EBADF', syscall: 'fstat' });
        const nothing = openSync('/dev/null', 'r+');
        assert.throws(() => CmaMem.fromFd(nothing), { code: 'ENOTTY', message: /no descriptor of \/dev\/cma_mem/ });
        // still ours
        closeSync(nothing);
        for (const wrong of [-1, 0.5, 2 ** 31]) assert.throws(() => CmaMem.fromFd(wrong), { code: 'ERR_OUT_OF_RANGE' });
        assert.throws(() => CmaMem.fromFd('3' as never), { code: 'ERR_INVALID_ARG_TYPE' });
        for (const wrong of [-1, 2 ** 32]) assert.throws(() => cma.region(wrong), { code: 'ERR_OUT_OF_RANGE' });
        const unknown = { code: 'ERR_INVALID_ARG_VALUE' };
        assert.throws(() => cma.allocateSync(PAGE, { cache: true } as never), unknown);
        assert.throws(() => region.export({ readOnly: true } as never), unknown);
        assert.throws(() => region.export({ readonly: 1 } as never), { code: 'ERR_INVALID_ARG_TYPE' });
        cma.close();
      });
    });

    it('keep the device where nothing else does', async () => {
      const collected = async () => {
        for (let round = 0; round < 3; round++) {
          globalThis.gc?.();
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      await (async () => {
        const region = CmaMem.open().allocateSync(PAGE);
        await collected();
        using mapping = region.map();
        assert.equal(mapping.buffer.byteLength, PAGE);
      })();
      for (let tries = 0; tries < 20 && counters('cma_mem').buffers > 0; tries++) await collected();
      assert.deepEqual(counters('cma_mem'), idleCounters.cma_mem);
    });

    it('go with the device where nothing else has them', async () => {
      await leavesNoPage(() => {
        const cma = CmaMem.open();
        for (let count = 1; count <= 40; count++) {
          cma.allocateSync(PAGE);
          assert.equal(counters('cma_mem').buffers, count);
        }
        cma.close();
        assert.deepEqual(counters('cma_mem'), idleCounters.cma_mem);
      });
    });
  });

  it('says how much CMA is free where there is none left, or that there is none at all', async () => {
    // more than one block of the page allocator: only CMA has such pieces
    const piece = 1.5 * largestBlock();
    await leavesNoPage(() => {
      using heap = openHeap('cma-mem');
      const buffers: DmaBuf[] = [];
      const { total, free } = cmaMemory();
      try {
        let message = '';
        assert.throws(
          () => {
            for (;;) buffers.push(heap.allocSync(piece));
          },
          (error: Error) => {
            message = error.message;
            return systemErrorOf('ENOMEM', 12, 'ioctl', '/dev/cma_mem', noPiece())(error);
          },
        );
        // A page in the middle that cannot be moved costs a piece.
        const expected = Math.floor(free / piece) - 1;
        assert(total === 0 || Math.floor(total / piece) >= 1, `a piece of ${piece} bytes is more than all of CMA`);
        assert(buffers.length >= expected, `only ${buffers.length} buffers of ${piece} bytes, ${free} were free`);
        if (total === 0) return assert.equal(buffers.length, 0);
        const [, freeSaid, totalSaid] = / (\d+) KiB of (\d+) KiB of CMA are free/.exec(message) ?? [];
        assert.equal(Number(totalSaid) * 1024, total);
        // The kernel lends pages of CMA to others, and moves some between the message and our own look.
        const off = Number(freeSaid) * 1024 - cmaMemory().free;
        assert(Math.abs(off) < 1 << 20, `${message} (${cmaMemory().free} bytes are free)`);
      } finally {
        for (const buffer of buffers) buffer.close();
      }
    });
  });

  it('goes on with blocks of pages where CMA has no room', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('cma-mem');
      const buffers: DmaBuf[] = [];
      try {
        // more than the whole of CMA, in pieces a block of pages can be
        for (let bytes = 0; bytes < cmaMemory().total + (4 << 20); bytes += 2 << 20) {
          buffers.push(heap.allocSync(2 << 20));
        }
        const last = buffers.at(-1) as DmaBuf;
        using mapping = last.map();
        assert(new Uint32Array(mapping.buffer).every((word) => word === 0));
        new Uint32Array(mapping.buffer).fill(0x5a5a5a5a);
      } finally {
        for (const buffer of buffers) buffer.close();
      }
    });
  });

  describe('CMEM_ALLOCATE', () => {
    it('answers with id, offset and length, and with an address for root alone', async function () {
      await withCma(this, async (process, cma) => {
        const first = await allocate(process, cma, { len: PAGE + 1, memBase: 7, physical: 7, offset: 7, id: 7 });
        const second = await allocate(process, cma, { len: PAGE, cached: true });
        assert.equal(first.offset, 0);
        assert.equal(first.len, PAGE + 1);
        assert.equal(first.memBase, 0);
        assert.notEqual(first.physical, 0);
        assert.equal(first.physical % PAGE, 0);
        assert.notEqual(second.id, first.id);
        assert.notEqual(second.offset, 0);
        assert.notEqual(second.physical, first.physical);

        // Without CAP_SYS_RAWIO, though the device was opened with it.
        await process.must('setuid', nobody);
        assert.equal((await allocate(process, cma, { len: PAGE, physical: 7 })).physical, 0);
      });
    });

    it('gives memory of its own, below 4 GiB', async function () {
      await withCma(this, async (process, cma) => {
        const { physical } = await allocate(process, cma, { len: 16 * PAGE });
        const { physical: next } = await allocate(process, cma, { len: 16 * PAGE });
        assert(Math.abs(next - physical) >= 16 * PAGE, 'two regions overlap');
        assert(physical + 16 * PAGE <= 2 ** 32);
      });
    });

    it('takes a name, and refuses one that is too long or nowhere', async function () {
      await withCma(this, async (process, cma) => {
        const name = await ownMemory(process);
        await process.must('poke', name, Buffer.from(`${'n'.repeat(31)}\0`));
        const { id } = await allocate(process, cma, { len: PAGE, name });
        const { code, bytes } = await exportRegion(process, cma, id, O_RDWR);
        assert.equal(code, '');
        assert.equal(fdinfo(abi.cmaExportFd(bytes), 'name', process.pid), 'n'.repeat(31));
        await process.must('poke', name, Buffer.from(`${'n'.repeat(32)}\0`));
        await process.fails('EINVAL', 'ioctl', cma, CMEM_ALLOCATE, cmaInfo({ len: PAGE, name }));
        await process.fails('EFAULT', 'ioctl', cma, CMEM_ALLOCATE, cmaInfo({ len: PAGE, name: 0x10 }));
        assert.equal(counters('cma_mem').buffers, 1);
      });
    });

    it('refuses length 0, too much, and bad pointers, and allocates nothing', async function () {
      await withCma(this, async (process, cma) => {
        await process.fails('EINVAL', 'ioctl', cma, CMEM_ALLOCATE, cmaInfo({ len: 0 }));
        for (const len of [0xffffffff, 0xfffff001, 0x40000000]) {
          await process.fails('ENOMEM', 'ioctl', cma, CMEM_ALLOCATE, cmaInfo({ len }));
        }
        await process.fails('EFAULT', 'ioctlp', cma, CMEM_ALLOCATE, 0);
        const page = await ownMemory(process);
        await process.must('poke', page, cmaInfo({ len: PAGE }));
        await process.must('mprotect', page, PAGE, PROT_READ);
        await process.fails('EFAULT', 'ioctlp', cma, CMEM_ALLOCATE, page);
        assert.deepEqual(counters('cma_mem'), idleCounters.cma_mem);
        await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_SHARED, cma, 0);
      });
    });
  });

  describe('mmap of the device', () => {
    it('shows zeroed memory of the caller, and never any other', async function () {
      await withCma(this, async (process, cma) => {
        await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_SHARED, cma, 0);
        const region = await allocate(process, cma, { len: 3 * PAGE });
        const address = await process.map(cma, 3 * PAGE, PROT_READ | PROT_WRITE, region.offset);
        assert.deepEqual(await process.peek(address, 8192), Buffer.alloc(8192));
        for (const [length, offset] of [
          [4 * PAGE, 0],
          [PAGE, 3 * PAGE],
          [3 * PAGE, PAGE],
          [PAGE, region.physical],
          [PAGE, 2 ** 31 - PAGE],
          // the last one that the kernel itself does not refuse on 32 bit
          [PAGE, 2 ** 32 - 2 * PAGE],
          ...(abi.POINTER === 8
            ? ([
                [PAGE, 2 ** 32],
                [PAGE, 2 ** 52],
              ] as const)
            : []),
        ] as const) {
          await process.fails('EINVAL', 'mmap', length, PROT_READ, MAP_SHARED, cma, region.offset + offset);
        }
        await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_PRIVATE, cma, region.offset);
        await process.fails('EFAULT', 'mremap', address, 3 * PAGE, 5 * PAGE);
      });
    });

    it('does not reach from one region into the next', async function () {
      await withCma(this, async (process, cma) => {
        const first = await allocate(process, cma, { len: PAGE });
        await allocate(process, cma, { len: PAGE });
        await process.fails('EINVAL', 'mmap', 2 * PAGE, PROT_READ, MAP_SHARED, cma, first.offset);
      });
    });

    it('does not show the regions of another file', async function () {
      await withCma(this, async (process, cma) => {
        const { id, offset } = await allocate(process, cma, { len: PAGE });
        const other = await process.must('open', '/dev/cma_mem', O_RDWR);
        await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_SHARED, other, offset);
        assert.equal((await exportRegion(process, other, id, O_RDWR)).code, 'EINVAL');
      });
    });

    it('is read-only where the device was opened so', async function () {
      await withCma(this, async (process) => {
        const reader = await process.must('open', '/dev/cma_mem', O_RDONLY);
        const { offset } = await allocate(process, reader, { len: PAGE });
        await process.fails('EACCES', 'mmap', PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, offset);
        const address = await process.map(reader, PAGE, PROT_READ, offset);
        await process.fails('EACCES', 'mprotect', address, PAGE, PROT_READ | PROT_WRITE);
      });
    });
  });

  describe('CMEM_IOC_EXPORT', () => {
    it('lets fd_flags decide close-on-exec and the access mode', async function () {
      await withCma(this, async (process, cma) => {
        const { id } = await allocate(process, cma, { len: 2 * PAGE });
        for (const [flags, shown] of [
          [O_RDONLY, '00'],
          [O_RDWR, '02'],
          [O_RDWR | O_CLOEXEC, '02000002'],
          [O_RDONLY | O_CLOEXEC, '02000000'],
        ] as const) {
          const { code, bytes } = await exportRegion(process, cma, id, flags);
          assert.equal(code, '');
          const fd = abi.cmaExportFd(bytes);
          assert.equal(fdinfo(fd, 'flags', process.pid), shown);
          assert.equal(await process.must('lseek', fd, 0, SEEK_END), 2 * PAGE);
          const writes = process.call('mmap', PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
          assert.equal((await writes).code, (flags & O_RDWR) === 0 ? 'EACCES' : '');
        }
      });
    });

    it('refuses other flags, reserved fields, unknown regions and bad pointers, and leaves no descriptor', async function () {
      await withCma(this, async (process, cma) => {
        const { id } = await allocate(process, cma, { len: PAGE });
        const { fds } = process;
        for (const flags of [3, 0x400, 0xffffffff, O_RDWR | 0x800]) {
          assert.equal((await exportRegion(process, cma, id, flags)).code, 'EINVAL');
        }
        await process.fails('EINVAL', 'ioctl', cma, CMEM_IOC_EXPORT, cmaExport({ id, flags: O_RDWR, reserved: 1 }));
        for (const unknown of [id + 1, 31, 32, 0xffffffff]) {
          assert.equal((await exportRegion(process, cma, unknown, O_RDWR)).code, 'EINVAL');
        }
        await process.fails('EFAULT', 'ioctlp', cma, CMEM_IOC_EXPORT, 0);
        const page = await ownMemory(process);
        await process.must('poke', page, cmaExport({ id, flags: O_RDWR }));
        await process.must('mprotect', page, PAGE, PROT_READ);
        await process.fails('EFAULT', 'ioctlp', cma, CMEM_IOC_EXPORT, page);
        assert.equal(process.fds, fds);
      });
    });
  });

  describe('CMEM_IOC_ALLOC', () => {
    it('gives a dma-buf that is O_RDWR and close-on-exec', async function () {
      await withCma(this, async (process, cma) => {
        for (const flags of [0, 1]) {
          const { code, bytes } = await process.call('ioctl', cma, CMEM_IOC_ALLOC, cmaAlloc({ len: PAGE + 1, flags }));
          assert.equal(code, '');
          const fd = abi.cmaAllocFd(bytes);
          assert.equal(fdinfo(fd, 'flags', process.pid), '02000002');
          assert.equal(await process.must('lseek', fd, 0, SEEK_END), 2 * PAGE);
          assert.equal(bytes.readBigUInt64LE(0), BigInt(PAGE + 1));
        }
      });
    });

    it('does not make a region of it', async function () {
      await withCma(this, async (process, cma) => {
        const { bytes } = await process.call('ioctl', cma, CMEM_IOC_ALLOC, cmaAlloc({ len: PAGE }));
        await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_SHARED, cma, 0);
        await process.must('close', abi.cmaAllocFd(bytes));
        assert.deepEqual(counters('cma_mem'), idleCounters.cma_mem);
      });
    });

    it('refuses what is wrong, and leaves neither descriptor nor page', async function () {
      await withCma(this, async (process, cma) => {
        const { fds } = process;
        const refused = (code: string, data: Parameters<typeof cmaAlloc>[0]) =>
          process.fails(code, 'ioctl', cma, CMEM_IOC_ALLOC, cmaAlloc(data));
        await refused('EINVAL', { len: 0 });
        await refused('EINVAL', { len: PAGE, flags: 2 });
        await refused('EINVAL', { len: PAGE, reserved: 1 });
        await refused('EINVAL', { len: 2n ** 64n - 1n });
        await refused('ENOMEM', { len: 2n ** 32n + BigInt(PAGE) });
        await refused('ENOMEM', { len: 2n ** 63n });
        await process.fails('EFAULT', 'ioctlp', cma, CMEM_IOC_ALLOC, 0x10);
        assert.equal(process.fds, fds);
        assert.deepEqual(counters('cma_mem'), idleCounters.cma_mem);
      });
    });
  });

  it('answers ENOTTY to what it does not know', async function () {
    await withCma(this, async (process, cma) => {
      for (const request of [0x40046d00, 0x40046d09, 0xc0186d22, 0]) {
        await process.fails('ENOTTY', 'ioctl', cma, request, Buffer.alloc(32));
      }
    });
  });
});
