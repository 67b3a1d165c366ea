// SPDX-License-Identifier: MIT
/** /dev/dma_heap: the interface of linux/dma-heap.h, as ion_lite has it where the kernel lacks it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { heaps } from 'dmabuf';
import {
  DMA_HEAP_IOCTL_ALLOC,
  type DmaHeapAllocation,
  dmaHeapAlloc,
  dmaHeapAllocation,
  dmaHeapFd,
  ION_IOC_ALLOC,
  ION_SYSTEM_HEAP,
  ionAllocation,
} from './abi.ts';
import { alloc as ionAlloc, withDevice } from './ion.ts';
import {
  counters,
  describeModules,
  fdinfo,
  hasOwnDmaHeaps,
  idleCounters,
  leavesNoPage,
  load,
  onlyScattered,
  oomKills,
  PAGE,
  program,
  refuses,
  skipWithout,
  staysLoaded,
  unload,
  wholePages,
  withParameters,
} from './support.ts';
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  O_CLOEXEC,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  PROT_READ,
  PROT_WRITE,
  SEEK_END,
  SEEK_SET,
  Syscalls,
} from './syscalls.ts';

const names = ['system', 'reserved'];
const ours = !hasOwnDmaHeaps();

const node = (name: string) => `/dev/dma_heap/${name}`;

/** What sysfs says of a heap of ours. */
function figure(name: string, file: string): string {
  return readFileSync(`/sys/class/dma_heap/${name}/${file}`, 'utf8').trim();
}

async function alloc(process: Syscalls, heap: number, allocation: DmaHeapAllocation): Promise<number> {
  const { code, bytes } = await process.call('ioctl', heap, DMA_HEAP_IOCTL_ALLOC, dmaHeapAllocation(allocation));
  assert.equal(code, '');
  return dmaHeapFd(bytes);
}

/** Each refused with a code. */
async function refused(code: string, process: Syscalls, heap: number, wrong: DmaHeapAllocation[]): Promise<void> {
  for (const allocation of wrong) {
    await process.fails(code, 'ioctl', heap, DMA_HEAP_IOCTL_ALLOC, dmaHeapAllocation(allocation));
  }
}

describeModules('a client of dma-heaps', () => {
  const { path, missing } = program('dma-heap');
  // Of a kernel's own one has this name everywhere, the others are called as it likes.
  const found = heaps().flatMap((info) => (info.kind === 'dma-heap' ? [info.path] : []));
  for (const heap of new Set([...(ours ? names : ['system']).map(node), ...found])) {
    it(`has zeroed memory from ${heap}, and finds in it what it wrote`, async function () {
      skipWithout(missing, this);
      await leavesNoPage(async () => {
        for (let round = 0; round < 2; round++) {
          const { stdout } = await promisify(execFile)(path, [heap]);
          assert.equal(stdout, `${wholePages(300_001)} 300001 300001\n`);
        }
      });
    });
  }
});

describeModules('the parameter dma_heap_nodes', () => {
  before(() => unload('ion_lite'));
  after(() => load('ion_lite'));

  for (const word of ['', 'on', 'AUTO', 'offf']) {
    it(`is not "${word}"`, () => {
      const why = new RegExp(`: dma_heap_nodes=${word} is neither auto nor off$`);
      refuses('ion_lite', `dma_heap_nodes=${word}`, why);
    });
  }
});

function describeOurs(title: string, body: () => void): void {
  if (ours) describeModules(title, body);
  else describeModules(title, () => void it('has dma-heaps of its own: ion_lite makes none'));
}

describeOurs(ours ? 'the dma-heaps of ion_lite' : 'this kernel', () => {
  it('are in a class that udev rules know', () => {
    assert.deepEqual(readdirSync('/dev/dma_heap').sort(), [...names].sort());
    for (const name of names) {
      assert.match(figure(name, 'uevent'), new RegExp(`^DEVNAME=dma_heap/${name}$`, 'm'));
      assert.equal(figure(name, 'name'), name);
    }
  });

  it('are not there with dma_heap_nodes=off, and come back', async () => {
    await withParameters('ion', ['dma_heap_nodes=off'], () => {
      assert(!existsSync('/sys/class/dma_heap'));
      assert(names.every((name) => !existsSync(node(name))));
    });
    assert(names.every((name) => existsSync(node(name))));
  });

  it('share the limit of the module with /dev/ion', async function () {
    await withParameters('ion', [`max_bytes=${10 * PAGE}`], async () => {
      await withDevice(this, node('system'), async (process, heap) => {
        const ion = await process.must('open', '/dev/ion', O_RDONLY);
        const six = await alloc(process, heap, { len: 6 * PAGE });
        const three = await ionAlloc(process, ion, { len: 3 * PAGE, mask: ION_SYSTEM_HEAP });
        await refused('ENOMEM', process, heap, [{ len: 2 * PAGE }]);
        const two = ionAllocation({ len: 2 * PAGE, mask: ION_SYSTEM_HEAP });
        await process.fails('ENOMEM', 'ioctl', ion, ION_IOC_ALLOC, two);
        const last = await alloc(process, heap, { len: PAGE });
        for (const fd of [six, three, last, ion]) await process.must('close', fd);
      });
    });
  });

  it('give one piece (reserved), or more than there is in one (system)', async function () {
    const large = { len: onlyScattered() };
    await withDevice(this, node('reserved'), (process, heap) => refused('ENOMEM', process, heap, [large]));
    await withDevice(this, node('system'), async (process, heap) => {
      await process.must('close', await alloc(process, heap, large));
    });
  });

  for (const name of names) {
    describe(name, () => {
      /** Runs a test with the heap open, and checks that it leaves neither a descriptor nor a page. */
      const onNode = (title: string, body: (process: Syscalls, heap: number) => Promise<void>) =>
        it(title, function () {
          return withDevice(this, node(name), body);
        });

      onNode('hands back the struct as it was, with a descriptor', async (process, heap) => {
        const request = dmaHeapAllocation({ len: PAGE + 1, fdFlags: O_RDWR | O_CLOEXEC });
        const { code, bytes } = await process.call('ioctl', heap, DMA_HEAP_IOCTL_ALLOC, request);
        assert.equal(code, '');
        const fd = dmaHeapFd(bytes);
        request.writeUInt32LE(fd, 8);
        assert.deepEqual(bytes, request);
        assert.equal(await process.must('lseek', fd, 0, SEEK_END), 2 * PAGE);
        assert.equal(fdinfo(fd, 'exp_name', process.pid), name);
        await process.must('close', fd);
      });

      onNode('lets fd_flags decide O_CLOEXEC and the access mode', async (process, heap) => {
        for (const [fdFlags, flags] of [
          [O_RDONLY, '00'],
          [O_WRONLY, '01'],
          [O_RDWR, '02'],
          [O_RDONLY | O_CLOEXEC, '02000000'],
          [O_RDWR | O_CLOEXEC, '02000002'],
        ] as const) {
          const fd = await alloc(process, heap, { len: PAGE, fdFlags });
          assert.equal(fdinfo(fd, 'flags', process.pid), flags);
          await process.must('close', fd);
        }
      });

      onNode('lets nobody write to a read-only dma-buf', async (process, heap) => {
        const fd = await alloc(process, heap, { len: PAGE, fdFlags: O_RDONLY });
        await process.fails('EACCES', 'mmap', PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        const address = await process.map(fd, PAGE, PROT_READ);
        assert.deepEqual(await process.peek(address, 16), Buffer.alloc(16));
        await process.fails('EACCES', 'mprotect', address, PAGE, PROT_READ | PROT_WRITE);
        await process.fails('EFAULT', 'poke', address, Buffer.of(1));
        await process.must('munmap', address, PAGE);
        await process.must('close', fd);
      });

      onNode('takes the structs of older and of newer programs', async (process, heap) => {
        const full = dmaHeapAllocation({ len: PAGE, fdFlags: O_RDWR });
        for (const bytes of [16, 20, 24, 32, 200]) {
          const request = Buffer.concat([full, Buffer.alloc(200, 0xee)]).subarray(0, bytes);
          const answer = await process.call('ioctl', heap, dmaHeapAlloc(bytes), request);
          assert.equal(answer.code, '', `${bytes} bytes`);
          const fd = dmaHeapFd(answer.bytes);
          request.writeUInt32LE(fd, 8);
          assert.deepEqual(answer.bytes, request);
          assert.equal(fdinfo(fd, 'flags', process.pid), '02');
          await process.must('close', fd);
        }
      });

      onNode('refuses structs without room for the descriptor, or that go one way only', async (process, heap) => {
        const request = dmaHeapAllocation({ len: PAGE, fdFlags: O_RDWR });
        for (const bytes of [0, 8, 11]) await process.fails('EINVAL', 'ioctl', heap, dmaHeapAlloc(bytes), request);
        for (const oneWay of [0x40184800, 0x80184800]) await process.fails('EINVAL', 'ioctl', heap, oneWay, request);
      });

      onNode('refuses flags it does not know, and a descriptor', async (process, heap) => {
        await refused('EINVAL', process, heap, [
          { len: PAGE, fdFlags: 3 },
          { len: PAGE, fdFlags: 0o4000 },
          { len: PAGE, fdFlags: O_RDWR | 0x80000000 },
          { len: PAGE, heapFlags: 1 },
          { len: PAGE, heapFlags: 2n ** 63n },
          { len: PAGE, fd: 1 },
          { len: PAGE, fd: 0xffffffff },
        ]);
      });

      onNode('refuses lengths that are 0 or wrap, and those beyond the memory', async (process, heap) => {
        const kills = oomKills();
        const page = BigInt(PAGE);
        await refused('EINVAL', process, heap, [{ len: 0 }, { len: 2n ** 64n - 1n }, { len: 2n ** 64n - page + 1n }]);
        const tooLong = [2n ** 32n, 2n ** 32n + 4096n, 2n ** 63n, 2n ** 64n - page];
        await refused(
          'ENOMEM',
          process,
          heap,
          tooLong.map((len) => ({ len })),
        );
        assert.equal(oomKills(), kills);
      });

      onNode('refuses other commands as the kernel does', async (process, heap) => {
        const request = dmaHeapAllocation({ len: PAGE });
        for (const command of [0xc0184801, 0xc01848ff, 0x5401]) {
          await process.fails('EINVAL', 'ioctl', heap, command, request);
        }
        for (const command of [0xc0184900, 0xc0184700]) await process.fails('ENOTTY', 'ioctl', heap, command, request);
      });

      onNode('answers EFAULT for a bad pointer, and allocates nothing', async (process, heap) => {
        await process.fails('EFAULT', 'ioctlp', heap, DMA_HEAP_IOCTL_ALLOC, 0);
        // readable, so that the answer is what cannot be written
        const address = await process.must('mmap', PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        await process.must('poke', address, dmaHeapAllocation({ len: PAGE }));
        await process.must('mprotect', address, PAGE, PROT_READ);
        await process.fails('EFAULT', 'ioctlp', heap, DMA_HEAP_IOCTL_ALLOC, address);
      });

      onNode('answers EMFILE where no descriptor is left, and allocates nothing', async (process, heap) => {
        await process.must('nofile', process.fds);
        await refused('EMFILE', process, heap, [{ len: PAGE }]);
        await process.must('nofile', 1024);
      });

      onNode('has nothing to seek in', async (process, heap) => {
        for (const whence of [SEEK_SET, SEEK_END]) await process.fails('ESPIPE', 'lseek', heap, 0, whence);
      });

      onNode('is counted, with the rest of ion_lite', async (process, heap) => {
        const said = () => [figure(name, 'buffers'), figure(name, 'bytes')];
        const before = Number(figure(name, 'peak_bytes'));
        const fd = await alloc(process, heap, { len: 3 * PAGE });
        assert.deepEqual(said(), ['1', `${3 * PAGE}`]);
        assert.deepEqual(counters('ion'), { buffers: 1, bytes: 3 * PAGE });
        await process.must('close', fd);
        assert.deepEqual(said(), ['0', '0']);
        assert.equal(Number(figure(name, 'peak_bytes')), Math.max(before, 3 * PAGE));
      });

      it('keeps the module while it is open', async function () {
        await using process = await Syscalls.start(this);
        const heap = await process.must('open', node(name), O_RDONLY);
        staysLoaded('ion_lite');
        const fd = await alloc(process, heap, { len: PAGE });
        await process.must('close', heap);
        staysLoaded('ion_lite');
        await process.must('close', fd);
        unload('ion_lite');
        load('ion_lite');
        assert.deepEqual(counters('ion'), idleCounters.ion);
      });
    });
  }
});
