// SPDX-License-Identifier: MIT
/** Files of /dev/cma_mem that show the regions of another one. */
import assert from 'node:assert/strict';
import { CmaMem } from 'dmabuf';
import * as abi from './abi.ts';
import { allocate, connect, exportRegion, info, refuses, withCma } from './cma.ts';
import { counters, describeModules, eventually, idleCounters, leavesNoPage, PAGE } from './support.ts';
import { MAP_SHARED, O_RDWR, PROT_READ, Syscalls } from './syscalls.ts';

const { CMEM_ALLOCATE, CMEM_CACHE_FLUSH, CMEM_GET_PHYS, CMEM_GET_SIZE, CMEM_MAP, CMEM_UNMAP } = abi;

const open = (process: Syscalls) => process.must('open', '/dev/cma_mem', O_RDWR);

/** Connects, which must be refused. */
async function refusesToConnect(code: string, process: Syscalls, cma: number, fd: number): Promise<void> {
  assert.equal((await connect(process, cma, fd)).code, code, `${cma} to ${fd}`);
}

/** Connects, which must go well. */
async function connects(process: Syscalls, cma: number, fd: number): Promise<void> {
  await refusesToConnect('', process, cma, fd);
}

describeModules('a file connected to another (CMEM_CONNECT)', () => {
  it('shows its regions, those to come too, for reading and writing', async function () {
    await withCma(this, async (process, owner) => {
      const before = await allocate(process, owner, { len: PAGE });
      const view = await open(process);
      await connects(process, view, owner);
      const after = await allocate(process, owner, { len: 2 * PAGE + 1 });
      for (const region of [before, after]) {
        const { id, offset, len, physical } = region;
        assert.deepEqual(await info(process, view, CMEM_MAP, { id }), { id, offset, len, physical: 0, memBase: 0 });
        assert.equal((await info(process, view, CMEM_GET_SIZE, { id })).len, len);
        assert.equal((await info(process, view, CMEM_GET_PHYS, { id })).physical, physical);
        await info(process, view, CMEM_CACHE_FLUSH, { id, len });
        const theirs = await process.map(owner, PAGE, undefined, offset);
        const ours = await process.map(view, PAGE, undefined, offset);
        await process.must('poke', ours, Buffer.from(`region ${id}`));
        assert.equal((await process.peek(theirs, 8)).toString(), `region ${id}`);
        const { bytes, code } = await exportRegion(process, view, id, O_RDWR);
        assert.equal(code, '');
        const shared = await process.map(abi.cmaExportFd(bytes), PAGE);
        assert.equal((await process.peek(shared, 8)).toString(), `region ${id}`);
      }
      await info(process, owner, CMEM_UNMAP, { id: before.id });
      await refuses('EINVAL', process, view, CMEM_MAP, { id: before.id });
      await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_SHARED, view, before.offset);
    });
  });

  it('may neither allocate regions nor give them up, but make dma-bufs of its own', async function () {
    await withCma(this, async (process, owner) => {
      const { id } = await allocate(process, owner, { len: PAGE });
      const view = await open(process);
      await connects(process, view, owner);
      await refuses('EPERM', process, view, CMEM_ALLOCATE, { len: PAGE });
      await refuses('EPERM', process, view, CMEM_ALLOCATE, { len: 0 });
      for (const any of [id, id + 1, 0]) await refuses('EPERM', process, view, CMEM_UNMAP, { id: any });
      const { code } = await process.call('ioctl', view, abi.CMEM_IOC_ALLOC, abi.cmaAlloc({ len: PAGE }));
      assert.equal(code, '');
      await info(process, owner, CMEM_MAP, { id });
    });
  });

  it('says what is wrong in the order: no descriptor, nothing to connect to, not free to connect', async function () {
    await withCma(this, async (process, cma) => {
      const busy = await open(process);
      await allocate(process, busy, { len: PAGE });
      const exporter = await process.must('open', '/dev/exporter', O_RDWR);
      const { bytes } = await process.call('ioctl', cma, abi.CMEM_IOC_ALLOC, abi.cmaAlloc({ len: PAGE }));
      const ionless = [exporter, abi.cmaAllocFd(bytes), await process.must('open', '/dev/null', O_RDWR)];
      for (const file of [cma, busy]) {
        for (const fd of [999, 0x7fffffff, 0x80000000, 0xffffffff]) {
          await refusesToConnect('EBADF', process, file, fd);
        }
        for (const fd of [...ionless, file]) await refusesToConnect('EINVAL', process, file, fd);
      }
      const other = await open(process);
      await refusesToConnect('EBUSY', process, busy, other);
      await connects(process, other, busy);
      await refusesToConnect('EINVAL', process, busy, other);
      await refusesToConnect('EBUSY', process, other, cma);
      await refusesToConnect('EBUSY', process, other, busy);
      await refusesToConnect('EINVAL', process, other, other);
      await refusesToConnect('EBADF', process, other, 999);
    });
  });

  it('is not tied by what it has given up', async function () {
    await withCma(this, async (process, owner) => {
      const view = await open(process);
      const { id } = await allocate(process, view, { len: PAGE });
      await refusesToConnect('EBUSY', process, view, owner);
      await info(process, view, CMEM_UNMAP, { id });
      await connects(process, view, owner);
    });
  });

  it('connected to a connected one shows the regions of the owner', async function () {
    await withCma(this, async (process, owner) => {
      const view = await open(process);
      const further = await open(process);
      await connects(process, view, owner);
      await connects(process, further, view);
      // and does not need the one between
      await process.must('close', view);
      const { id } = await allocate(process, owner, { len: PAGE });
      assert.equal((await info(process, further, CMEM_GET_SIZE, { id })).len, PAGE);
      await refusesToConnect('EINVAL', process, owner, further);
    });
  });

  it('goes along where the file it is connected to connects to another', async function () {
    await withCma(this, async (process, owner) => {
      const { id } = await allocate(process, owner, { len: PAGE });
      const middle = await open(process);
      const views = [await open(process), await open(process)];
      for (const view of views) await connects(process, view, middle);
      await refusesToConnect('EINVAL', process, middle, views[0] as number);
      await connects(process, middle, owner);
      for (const view of [middle, ...views]) {
        assert.equal((await info(process, view, CMEM_GET_SIZE, { id })).len, PAGE);
        await refusesToConnect('EINVAL', process, owner, view);
        await refuses('EPERM', process, view, CMEM_ALLOCATE, { len: PAGE });
      }
      await process.must('close', middle);
      for (const view of views) assert.equal((await info(process, view, CMEM_GET_SIZE, { id })).len, PAGE);
    });
  });

  it('never comes round in a circle, in whatever order it is closed', async function () {
    await withCma(this, async (process, first) => {
      const files = [first, await open(process), await open(process), await open(process)];
      for (const [i, file] of files.slice(0, -1).entries()) await connects(process, file, files[i + 1] as number);
      for (const file of files.slice(0, -1)) {
        await refusesToConnect('EINVAL', process, files.at(-1) as number, file);
      }
      const { id } = await allocate(process, files.at(-1) as number, { len: PAGE });
      assert.equal((await info(process, first, CMEM_GET_SIZE, { id })).len, PAGE);
      for (const i of [1, 3, 0, 2]) await process.must('close', files[i] as number);
      assert.deepEqual(counters('cma_mem'), idleCounters.cma_mem);
    });
  });

  it('shows nothing once its owner is closed, which frees all that no mapping or dma-buf has', async function () {
    await withCma(this, async (process, owner) => {
      const view = await open(process);
      await connects(process, view, owner);
      const [gone, mapped, exported] = [
        await allocate(process, owner, { len: PAGE }),
        await allocate(process, owner, { len: PAGE }),
        await allocate(process, owner, { len: PAGE }),
      ];
      assert(gone && mapped && exported);
      const address = await process.map(view, PAGE, undefined, mapped.offset);
      await process.must('poke', address, Buffer.from('mapped'));
      const { bytes } = await exportRegion(process, view, exported.id, O_RDWR);
      const late = await open(process);
      await process.must('close', owner);
      assert.deepEqual(counters('cma_mem'), { buffers: 2, bytes: 2 * PAGE });
      for (const { id, offset } of [gone, mapped, exported]) {
        await refuses('EINVAL', process, view, CMEM_MAP, { id });
        await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_SHARED, view, offset);
      }
      assert.equal((await process.peek(address, 6)).toString(), 'mapped');
      // It stays connected, to nothing; so does who connects to it.
      await refuses('EPERM', process, view, CMEM_ALLOCATE, { len: PAGE });
      await refusesToConnect('EBUSY', process, view, late);
      await connects(process, late, view);
      await refuses('EINVAL', process, late, CMEM_MAP, { id: mapped.id });
      await process.must('munmap', address, PAGE);
      await process.must('close', abi.cmaExportFd(bytes));
      assert.deepEqual(counters('cma_mem'), idleCounters.cma_mem);
    });
  });

  it('is the same across processes: what one writes the other reads', async function () {
    await leavesNoPage(async () => {
      using owner = CmaMem.open();
      await using process = await Syscalls.start(this);
      const view = await open(process);
      const theirs = await process.take(owner.fd);
      await connects(process, view, theirs);
      await process.must('close', theirs);
      using region = await owner.allocate(PAGE + 1);
      using mapping = region.map();
      const address = await process.map(view, 2 * PAGE, undefined, region.offset);
      new Uint8Array(mapping.buffer)[PAGE] = 42;
      assert.equal((await process.peek(address + PAGE, 1))[0], 42);
      await process.must('poke', address, Buffer.from([43]));
      assert.equal(new Uint8Array(mapping.buffer)[0], 43);
      await refuses('EPERM', process, view, CMEM_UNMAP, { id: region.id });
      await refuses('EINVAL', process, await open(process), CMEM_MAP, { id: region.id });
      const { buffers } = counters('cma_mem');
      mapping.close();
      region.close();
      // the mapping of the other process
      assert.equal(counters('cma_mem').buffers, buffers);
      await process.end();
      await eventually(() => assert.deepEqual(counters('cma_mem'), idleCounters.cma_mem));
    });
  });
});

describeModules('CmaMem.connect()', () => {
  it("finds regions by their ids, which are the other object's", async () => {
    await leavesNoPage(async () => {
      using owner = CmaMem.open();
      using view = CmaMem.open();
      view.connect(owner);
      const made = await owner.allocate(PAGE + 1, { name: 'shared' });
      using found = view.region(made.id);
      const { id, offset, length, size, physicalBase } = found;
      assert.deepEqual(
        { id, offset, length, size, physicalBase },
        {
          ...{ id: made.id, offset: made.offset, length: PAGE + 1, size: 2 * PAGE },
          ...{ physicalBase: made.physicalBase },
        },
      );
      using ours = found.map();
      using theirs = made.map();
      new Uint8Array(ours.buffer).fill(9);
      found.flush();
      assert(new Uint8Array(theirs.buffer).every((byte) => byte === 9));
      using buffer = found.export();
      assert.equal(buffer.name, 'shared');
      // The object ends, the region does not.
      found.close();
      assert.throws(() => found.map(), { code: 'ERR_DMABUF_CLOSED', syscall: 'mmap', path: '/dev/cma_mem' });
      assert.equal(view.region(made.id).offset, made.offset);
      made.close();
      assert.throws(() => view.region(made.id), {
        ...{ code: 'EINVAL', errno: -22, syscall: 'ioctl', path: '/dev/cma_mem' },
        message: /has no region \d+: it was given up, or is another file's/,
      });
    });
  });

  it('takes a descriptor, says why not, and allocates no more', async () => {
    await leavesNoPage(async () => {
      using owner = CmaMem.open();
      using view = CmaMem.open();
      view.connect(owner.fd);
      const refused = (code: string, message: RegExp) => ({ code, syscall: 'ioctl', path: '/dev/cma_mem', message });
      assert.throws(() => view.allocateSync(PAGE), refused('EPERM', /shows the regions of another file/));
      await assert.rejects(view.allocate(PAGE), refused('EPERM', /shows the regions of another file/));
      assert.throws(() => view.connect(owner), refused('EBUSY', /has regions or is connected already/));
      assert.throws(() => owner.connect(view), refused('EINVAL', /is no \/dev\/cma_mem, or shows the regions/));
      assert.throws(() => owner.connect(1), refused('EINVAL', /is no \/dev\/cma_mem/));
      assert.throws(() => owner.connect(999), refused('EBADF', /has no such descriptor/));
      for (const wrong of [undefined, null, '3', {}, [owner]]) {
        assert.throws(() => owner.connect(wrong as never), { code: 'ERR_INVALID_ARG_TYPE' });
      }
      for (const wrong of [-1, 0.5, Number.NaN, 2 ** 31]) {
        assert.throws(() => owner.connect(wrong), { code: 'ERR_OUT_OF_RANGE' });
      }
      const closed = CmaMem.open();
      closed.close();
      assert.throws(() => owner.connect(closed), { code: 'ERR_DMABUF_CLOSED' });
      assert.throws(() => closed.connect(owner), { code: 'ERR_DMABUF_CLOSED' });
      assert.throws(() => closed.totals(), { code: 'ERR_DMABUF_CLOSED' });
      assert.throws(() => closed.region(1), { code: 'ERR_DMABUF_CLOSED' });
      assert.throws(() => closed.fd, { code: 'ERR_DMABUF_CLOSED' });
    });
  });

  it('never maps another region that has the place of one that was given up', async () => {
    await leavesNoPage(() => {
      using owner = CmaMem.open();
      using view = CmaMem.open();
      view.connect(owner);
      const old = owner.allocateSync(PAGE);
      const other = owner.region(old.id);
      const found = view.region(old.id);
      old.close();
      const next = owner.allocateSync(PAGE);
      assert.equal(next.offset, old.offset);
      assert.notEqual(next.id, old.id);
      for (const stale of [other, found]) {
        assert.throws(() => stale.map(), { code: 'EINVAL', syscall: 'mmap', message: /given up by another object/ });
      }
      using mapping = next.map();
      assert.equal(mapping.length, PAGE);
    });
  });

  it('shows nothing of an owner that was closed', async () => {
    await leavesNoPage(() => {
      const owner = CmaMem.open();
      using view = CmaMem.open();
      view.connect(owner);
      const region = owner.allocateSync(PAGE);
      const found = view.region(region.id);
      owner.close();
      region.close();
      assert.equal(counters('cma_mem').buffers, 0);
      const gone = { code: 'EINVAL', path: '/dev/cma_mem', message: /given up by another object.*was closed/ };
      assert.throws(() => found.map(), { ...gone, syscall: 'mmap' });
      assert.throws(() => found.export(), { ...gone, syscall: 'ioctl' });
      assert.throws(() => found.flush(), { ...gone, syscall: 'ioctl' });
      assert.throws(() => view.region(region.id), { code: 'EINVAL' });
      found.close();
    });
  });
});
