// SPDX-License-Identifier: MIT
/** The calls about a region of /dev/cma_mem, as docs/abi.md says them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import * as abi from './abi.ts';
import { allocate, exportRegion, info, refuses, withCma } from './cma.ts';
import { cmaMemory, counters, describeModules, memory, PAGE, withParameters } from './support.ts';
import { MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, O_RDWR, PROT_READ, PROT_WRITE, type Syscalls } from './syscalls.ts';

const { CMEM_CACHE_FLUSH, CMEM_GET_PHYS, CMEM_GET_SIZE, CMEM_GET_TOTAL_SIZE, CMEM_MAP, CMEM_UNMAP } = abi;

const nobody = 65534;
const CAP_SYS_RAWIO = 17;

/** The calls that say a region by its id, and change nothing. */
const looking = { CMEM_GET_PHYS, CMEM_MAP, CMEM_GET_SIZE, CMEM_CACHE_FLUSH };

/** Whether the process may know physical addresses. */
function isPrivileged(pid: number): boolean {
  const [, mask = ''] = /^CapEff:\s+(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return (BigInt(`0x${mask}`) & (1n << BigInt(CAP_SYS_RAWIO))) !== 0n;
}

/** What each call about a region answers where there is no such region. */
async function knowsNothingOf(process: Syscalls, cma: number, id: number): Promise<void> {
  for (const request of [...Object.values(looking), CMEM_UNMAP]) {
    await refuses('EINVAL', process, cma, request, { id, len: 1 });
  }
  assert.equal((await exportRegion(process, cma, id, O_RDWR)).code, 'EINVAL');
}

describeModules('a region of cma_mem', () => {
  it('is told by its id: where it is, and how many bytes were asked for', async function () {
    await withCma(this, async (process, cma) => {
      const first = await allocate(process, cma, { len: PAGE + 1 });
      const second = await allocate(process, cma, { len: 3 * PAGE, cached: true });
      for (const region of [first, second]) {
        const { id, offset, len, physical } = region;
        const said = { id, physical: 7, memBase: 7, offset: 7, len: 7 };
        const mapped = await info(process, cma, CMEM_MAP, said);
        assert.deepEqual(mapped, { id, offset, len, physical: 0, memBase: 0 });
        const sized = await info(process, cma, CMEM_GET_SIZE, said);
        assert.deepEqual(sized, { id, offset: 7, len, physical: 0, memBase: 0 });
        const placed = await info(process, cma, CMEM_GET_PHYS, said);
        assert.deepEqual(placed, { id, offset: 7, len, physical, memBase: 0 });
      }
    });
  });

  it('has no address for whoever lacks CAP_SYS_RAWIO', async function () {
    await withCma(this, async (process, cma) => {
      const { id, offset } = await allocate(process, cma, { len: PAGE });
      assert(isPrivileged(process.pid));
      await process.must('setuid', nobody);
      assert(!isPrivileged(process.pid));
      await refuses('EPERM', process, cma, CMEM_GET_PHYS, { id });
      await refuses('EPERM', process, cma, CMEM_GET_PHYS, { id: id + 1 });
      const mapped = await info(process, cma, CMEM_MAP, { id, physical: 7 });
      assert.deepEqual(mapped, { id, offset, len: PAGE, physical: 0, memBase: 0 });
      assert.equal((await info(process, cma, CMEM_GET_TOTAL_SIZE, { physical: 7 })).physical, 0);
    });
  });

  it('is nothing to another file', async function () {
    await withCma(this, async (process, cma) => {
      const { id } = await allocate(process, cma, { len: PAGE });
      const other = await process.must('open', '/dev/cma_mem', O_RDWR);
      await knowsNothingOf(process, other, id);
      await allocate(process, other, { len: PAGE });
      // the same number there is that file's own
      const again = await info(process, other, CMEM_GET_PHYS, { id });
      const ours = await info(process, cma, CMEM_GET_PHYS, { id });
      assert.notEqual(again.physical, ours.physical);
      for (const strange of [0, id + 1, 31, 32, 33, 0x7fffffff, 0x80000000, 0xffffffff]) {
        await knowsNothingOf(process, cma, strange);
      }
    });
  });

  it('is nothing once it was given up, and its memory goes unless somebody has it', async function () {
    await withCma(this, async (process, cma) => {
      const { id, offset } = await allocate(process, cma, { len: 2 * PAGE });
      await info(process, cma, CMEM_UNMAP, { id });
      assert.equal(counters('cma_mem').buffers, 0);
      await knowsNothingOf(process, cma, id);
      await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_SHARED, cma, offset);
    });
  });

  for (const [what, keep, drop] of [
    [
      'mapping',
      (process: Syscalls, cma: number, { offset }: { offset: number }) => process.map(cma, 2 * PAGE, undefined, offset),
      (process: Syscalls, address: number) => process.must('munmap', address, 2 * PAGE),
    ],
    [
      'dma-buf',
      async (process: Syscalls, cma: number, { id }: { id: number }) =>
        abi.cmaExportFd((await exportRegion(process, cma, id, O_RDWR)).bytes),
      (process: Syscalls, fd: number) => process.must('close', fd),
    ],
  ] as const) {
    it(`lives on in a ${what}, no longer, and nobody gets its memory meanwhile`, async function () {
      await withCma(this, async (process, cma) => {
        const region = await allocate(process, cma, { len: 2 * PAGE });
        const kept = await keep(process, cma, region);
        const address = what === 'mapping' ? kept : await process.map(kept, 2 * PAGE);
        await process.must('poke', address, Buffer.from('kept'));
        await info(process, cma, CMEM_UNMAP, { id: region.id });
        assert.deepEqual(counters('cma_mem'), { buffers: 1, bytes: 2 * PAGE });
        // Its offset may be another's at once, its memory may not.
        const next = await allocate(process, cma, { len: 2 * PAGE });
        assert.equal(next.offset, region.offset);
        assert.notEqual(next.id, region.id);
        assert.notEqual(next.physical, region.physical);
        const other = await process.map(cma, 2 * PAGE, undefined, next.offset);
        assert.deepEqual(await process.peek(other, PAGE), Buffer.alloc(PAGE));
        await process.must('close', cma);
        assert.equal((await process.peek(address, 4)).toString(), 'kept');
        await process.must('munmap', other, 2 * PAGE);
        if (what === 'dma-buf') await process.must('munmap', address, 2 * PAGE);
        assert.deepEqual(counters('cma_mem'), { buffers: 1, bytes: 2 * PAGE });
        await drop(process, kept);
        assert.deepEqual(counters('cma_mem'), { buffers: 0, bytes: 0 });
      });
    });
  }

  it('leaves a gap that the next ones do not reach beyond', async function () {
    await withCma(this, async (process, cma) => {
      const regions = [];
      for (let i = 0; i < 3; i++) regions.push(await allocate(process, cma, { len: PAGE }));
      const [first, middle, last] = regions;
      assert(first && middle && last);
      await info(process, cma, CMEM_UNMAP, { id: middle.id });
      await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_SHARED, cma, middle.offset);
      await process.fails('EINVAL', 'mmap', 2 * PAGE, PROT_READ, MAP_SHARED, cma, first.offset);
      await process.fails('EINVAL', 'mmap', 3 * PAGE, PROT_READ, MAP_SHARED, cma, first.offset);
      await process.map(cma, PAGE, PROT_READ, first.offset);
      await process.map(cma, PAGE, PROT_READ, last.offset);
    });
  });

  it('is flushed up to its last byte, and not beyond', async function () {
    await withCma(this, async (process, cma) => {
      for (const cached of [true, false]) {
        const { id } = await allocate(process, cma, { len: 2 * PAGE, cached });
        for (const [offset, len] of [
          [0, 2 * PAGE],
          [0, 1],
          [PAGE - 1, 2],
          [2 * PAGE - 1, 1],
          [7, PAGE],
        ] as const) {
          await info(process, cma, CMEM_CACHE_FLUSH, { id, offset, len });
        }
        for (const [offset, len] of [
          [0, 0],
          [2 * PAGE, 0],
          [0, 2 * PAGE + 1],
          [1, 2 * PAGE],
          [2 * PAGE - 1, 2],
          [2 * PAGE, 1],
          [2 * PAGE + 1, 1],
          [0xffffffff, 1],
          [0xffffffff, 2],
          [1, 0xffffffff],
          [0x80000000, 0x80000000],
          [0, 0xffffffff],
        ] as const) {
          await refuses('EINVAL', process, cma, CMEM_CACHE_FLUSH, { id, offset, len });
        }
      }
    });
  });

  it('is kept through a flush with what the CPU wrote', async function () {
    await withCma(this, async (process, cma) => {
      const { id, offset } = await allocate(process, cma, { len: 2 * PAGE, cached: true });
      const address = await process.map(cma, 2 * PAGE, undefined, offset);
      await process.must('poke', address + PAGE - 4, Buffer.from('wrote it'));
      await info(process, cma, CMEM_CACHE_FLUSH, { id, offset: PAGE - 4, len: 8 });
      assert.equal((await process.peek(address + PAGE - 4, 8)).toString(), 'wrote it');
    });
  });

  it('is not told, given up or connected through a bad pointer', async function () {
    await withCma(this, async (process, cma) => {
      const { id, offset } = await allocate(process, cma, { len: PAGE });
      const requests = [...Object.values(looking), CMEM_UNMAP, abi.CMEM_CONNECT, CMEM_GET_TOTAL_SIZE];
      for (const request of requests) {
        await process.fails('EFAULT', 'ioctlp', cma, request, 0);
        await process.fails('EFAULT', 'ioctlp', cma, request, 0x10);
      }
      const page = await process.must('mmap', PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      await process.must('poke', page, abi.cmaInfo({ id, len: PAGE }));
      await process.must('mprotect', page, PAGE, PROT_READ);
      for (const request of [CMEM_GET_PHYS, CMEM_MAP, CMEM_GET_SIZE, CMEM_GET_TOTAL_SIZE]) {
        await process.fails('EFAULT', 'ioctlp', cma, request, page);
      }
      assert.equal((await info(process, cma, CMEM_MAP, { id })).offset, offset);
    });
  });
});

describeModules('CMEM_GET_TOTAL_SIZE', () => {
  /** Bytes the device handed out at most, as sysfs says. */
  const most = () => Number(readFileSync('/sys/class/misc/cma_mem/max_bytes', 'utf8'));

  it('says what of the memory there was at the start is left', async function () {
    await withCma(this, async (process, cma) => {
      const { len, offset } = await info(process, cma, CMEM_GET_TOTAL_SIZE, { len: 7, offset: 7 });
      const { total } = cmaMemory();
      if (total === 0) assert.equal(len, Math.min(most(), 0xffffffff));
      else assert(len > 0 && len <= Math.min(total, most()), `${len} of ${total}`);
      assert.equal(len % PAGE, 0);
      assert.equal(offset, len);
      const first = await allocate(process, cma, { len: 2 * PAGE + 1 });
      const buffer = await process.call('ioctl', cma, abi.CMEM_IOC_ALLOC, abi.cmaAlloc({ len: PAGE }));
      assert.equal(buffer.code, '');
      // of all files together
      const other = await process.must('open', '/dev/cma_mem', O_RDWR);
      assert.deepEqual(await info(process, other, CMEM_GET_TOTAL_SIZE, {}), {
        ...{ id: 0, len, offset: len - 4 * PAGE },
        ...{ physical: 0, memBase: 0 },
      });
      await info(process, cma, CMEM_UNMAP, { id: first.id });
      assert.equal((await info(process, cma, CMEM_GET_TOTAL_SIZE, {})).offset, len - PAGE);
    });
  });

  it('is what max_bytes= says where that is less, and ALLOCATE gives no more', async function () {
    // Of what is no whole page nobody can be given anything.
    await withParameters('cma_mem', [`max_bytes=${5 * PAGE + 100}`], async () => {
      await withCma(this, async (process, cma) => {
        assert.equal((await info(process, cma, CMEM_GET_TOTAL_SIZE, {})).len, 5 * PAGE);
        const { id } = await allocate(process, cma, { len: 3 * PAGE });
        await refuses('ENOMEM', process, cma, abi.CMEM_ALLOCATE, { len: 2 * PAGE + 1 });
        await allocate(process, cma, { len: 2 * PAGE });
        assert.equal((await info(process, cma, CMEM_GET_TOTAL_SIZE, {})).offset, 0);
        await refuses('ENOMEM', process, cma, abi.CMEM_ALLOCATE, { len: 1 });
        await info(process, cma, CMEM_UNMAP, { id });
        await allocate(process, cma, { len: 3 * PAGE });
      });
    });
  });

  it('never says more than a struct cmamem_info can', async function () {
    await withParameters('cma_mem', ['max_bytes=0xffffffffffffffff'], async () => {
      await withCma(this, async (process, cma) => {
        const { len } = await info(process, cma, CMEM_GET_TOTAL_SIZE, {});
        assert(cmaMemory().total === 0 ? len === 0xffffffff : len <= 1024 * memory('CmaTotal'));
      });
    });
  });
});
