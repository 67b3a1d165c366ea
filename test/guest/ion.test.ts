// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { type DmaBuf, openHeap } from 'dmabuf';
import * as abi from './abi.ts';
import { alloc, type DeviceTest, heapMasks, heapTable, withDevice } from './ion.ts';
import {
  counters,
  describeModules,
  eventually,
  fdinfo,
  heapLines,
  idleCounters,
  leavesNoPage,
  onlyScattered,
  oomKills,
  PAGE,
  suiteWithParameters,
  systemErrorOf,
  withParameters,
} from './support.ts';
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  O_RDONLY,
  PROT_READ,
  PROT_WRITE,
  SEEK_END,
  SEEK_SET,
  Syscalls,
} from './syscalls.ts';

const { ION_CONTIG_HEAP, ION_DMA_HEAP, ION_IOC_ABI_VERSION, ION_IOC_ALLOC, ION_IOC_HEAP_QUERY, ION_SYSTEM_HEAP } = abi;
const { ionAllocation, ionFd, ionQuery } = abi;

const withIon = (context: Mocha.Context, body: DeviceTest) => withDevice(context, '/dev/ion', body);

for (const [title, parameters] of [
  ['ION', []],
  ['ION beside its handle interface', ['legacy_abi=1']],
] as const) {
  /** FREE of the handle interface: clients decide by it which interface they face. */
  const noHandle = parameters.length === 0 ? 'ENOTTY' : 'EINVAL';

  describeModules(title, () => {
    suiteWithParameters('ion', ...parameters);

    it('names its heaps to whoever asks for one it lacks', async () => {
      const sentence = /no heap "nonsense".*ion_dma_heap \(4\).*ion_system_heap \(0\)/;
      await leavesNoPage(() => {
        assert.throws(
          () => openHeap('ion', { heap: 'nonsense' }),
          systemErrorOf('ENODEV', 19, 'ioctl', '/dev/ion', sentence),
        );
        assert.throws(
          () => openHeap('/dev/ion', { heap: 31 }),
          systemErrorOf('ENODEV', 19, 'ioctl', '/dev/ion', /no heap 31.*ion_dma_heap \(4\)/),
        );
      });
    });

    it('stops at the limit of the module, long before the OOM killer', async () => {
      const kills = oomKills();
      const piece = 32 << 20;
      await leavesNoPage(() => {
        using heap = openHeap('ion', { heap: 'ion_system_heap' });
        const buffers: DmaBuf[] = [];
        try {
          assert.throws(
            () => {
              for (;;) buffers.push(heap.allocSync(piece));
            },
            systemErrorOf(
              'ENOMEM',
              12,
              'ioctl',
              '/dev/ion',
              /hands out \d+ KiB of memory at most \(max_bytes\), and \d+ KiB of them are taken/,
            ),
          );
          assert(buffers.length >= 8, `only ${buffers.length} buffers of 32 MiB`);
          assert.equal(counters('ion').bytes, buffers.length * piece);
        } finally {
          for (const buffer of buffers) buffer.close();
        }
      });
      assert.equal(oomKills(), kills);
    });

    describe('ION_IOC_ALLOC', () => {
      it('hands back len as it was, and a descriptor that is O_RDWR and close-on-exec', async function () {
        await withIon(this, async (process, ion) => {
          const request = ionAllocation({
            len: PAGE + 1,
            mask: ION_SYSTEM_HEAP,
            flags: 1,
            fd: 0xdeadbeef,
            unused: 0xffffffff,
          });
          const { code, bytes } = await process.call('ioctl', ion, ION_IOC_ALLOC, request);
          assert.equal(code, '');
          assert.equal(bytes.readBigUInt64LE(0), BigInt(PAGE + 1));
          assert.equal(bytes.readUInt32LE(8), ION_SYSTEM_HEAP);
          const fd = ionFd(bytes);
          assert.equal(fdinfo(fd, 'flags', process.pid), '02000002');
          assert.equal(await process.must('lseek', fd, 0, SEEK_END), 2 * PAGE);
          await process.must('close', fd);
        });
      });

      it('accepts flags it does not know', async function () {
        await withIon(this, async (process, ion) => {
          for (const flags of [0, 1, 2, 3, 0xffffffff]) {
            await process.must('close', await alloc(process, ion, { len: PAGE, mask: ION_SYSTEM_HEAP, flags }));
          }
        });
      });

      it('tries every heap of the mask', async function () {
        await withIon(this, async (process, ion) => {
          for (const mask of [...heapMasks, ION_SYSTEM_HEAP | ION_DMA_HEAP, 0xffffffff]) {
            await process.must('close', await alloc(process, ion, { len: PAGE, mask }));
          }
          const len = onlyScattered();
          for (const mask of [ION_DMA_HEAP, ION_CONTIG_HEAP]) {
            await process.fails('ENOMEM', 'ioctl', ion, ION_IOC_ALLOC, ionAllocation({ len, mask }));
          }
          const both = ION_DMA_HEAP | ION_SYSTEM_HEAP;
          await process.must('close', await alloc(process, ion, { len, mask: both }));
        });
      });

      it('answers ENODEV where no heap is in the mask', async function () {
        await withIon(this, async (process, ion) => {
          for (const mask of [0, 1 << 5, 1 << 31]) {
            await process.fails('ENODEV', 'ioctl', ion, ION_IOC_ALLOC, ionAllocation({ len: PAGE, mask }));
          }
        });
      });

      it('answers EINVAL for a length that is 0 or wraps', async function () {
        await withIon(this, async (process, ion) => {
          for (const len of [0n, 2n ** 64n - 1n, 2n ** 64n - BigInt(PAGE) + 1n]) {
            for (const mask of heapMasks) {
              await process.fails('EINVAL', 'ioctl', ion, ION_IOC_ALLOC, ionAllocation({ len, mask }));
            }
          }
        });
      });

      it('answers ENOMEM for a length beyond the memory, 64 bit of it', async function () {
        const kills = oomKills();
        await withIon(this, async (process, ion) => {
          const page = BigInt(PAGE);
          const mostOfRam = Math.floor(totalmem() * 0.75);
          for (const len of [2n ** 64n - page, 2n ** 63n, 2n ** 32n, 2n ** 32n + page, mostOfRam]) {
            for (const mask of heapMasks) {
              await process.fails('ENOMEM', 'ioctl', ion, ION_IOC_ALLOC, ionAllocation({ len, mask }));
            }
          }
        });
        assert.equal(oomKills(), kills);
      });

      it('answers EFAULT for a bad pointer, and allocates nothing', async function () {
        await withIon(this, async (process, ion) => {
          await process.fails('EFAULT', 'ioctlp', ion, ION_IOC_ALLOC, 0);
          // readable, so that the answer is what cannot be written
          const anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
          const page = await process.must('mmap', PAGE, PROT_READ | PROT_WRITE, anonymous, -1, 0);
          await process.must('poke', page, ionAllocation({ len: PAGE, mask: ION_SYSTEM_HEAP }));
          await process.must('mprotect', page, PAGE, PROT_READ);
          await process.fails('EFAULT', 'ioctlp', ion, ION_IOC_ALLOC, page);
        });
      });

      it('answers EMFILE where no descriptor is left, and allocates nothing', async function () {
        await withIon(this, async (process, ion) => {
          await process.must('nofile', process.fds);
          await process.fails(
            'EMFILE',
            'ioctl',
            ion,
            ION_IOC_ALLOC,
            ionAllocation({ len: PAGE, mask: ION_SYSTEM_HEAP }),
          );
          await process.must('nofile', 1024);
        });
      });
    });

    describe('ION_IOC_HEAP_QUERY', () => {
      async function scratch(process: Syscalls): Promise<number> {
        return process.must('mmap', PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      }

      it('counts the heaps', async function () {
        await withIon(this, async (process, ion) => {
          const { code, bytes } = await process.call('ioctl', ion, ION_IOC_HEAP_QUERY, ionQuery({}));
          assert.equal(code, '');
          assert.equal(bytes.readUInt32LE(0), heapTable.length);
        });
      });

      it('describes them, as many as are asked for', async function () {
        await withIon(this, async (process, ion) => {
          const heaps = await scratch(process);
          for (const cnt of [1, 2, 32]) {
            await process.must('poke', heaps, Buffer.alloc(8 * abi.ION_HEAP_DATA_BYTES, 0xee));
            const { code, bytes } = await process.call('ioctl', ion, ION_IOC_HEAP_QUERY, ionQuery({ cnt, heaps }));
            assert.equal(code, '');
            const filled = Math.min(cnt, heapTable.length);
            assert.equal(bytes.readUInt32LE(0), filled);
            const data = await process.peek(heaps, 8 * abi.ION_HEAP_DATA_BYTES);
            const described = Array.from({ length: filled }, (_, index) => abi.ionHeapData(data, index));
            assert.deepEqual(described, heapTable.slice(0, filled));
            assert(data.subarray(filled * abi.ION_HEAP_DATA_BYTES).every((byte) => byte === 0xee));
          }
        });
      });

      it('answers EINVAL for no room and for reserved fields, EFAULT for bad pointers', async function () {
        await withIon(this, async (process, ion) => {
          const heaps = await scratch(process);
          await process.fails('EINVAL', 'ioctl', ion, ION_IOC_HEAP_QUERY, ionQuery({ cnt: 0, heaps }));
          for (const reserved of [
            [1, 0, 0],
            [0, 1, 0],
            [0, 0, 1],
          ] as const) {
            const query = ionQuery({ cnt: 2, heaps, reserved: [...reserved] });
            await process.fails('EINVAL', 'ioctl', ion, ION_IOC_HEAP_QUERY, query);
          }
          await process.fails('EFAULT', 'ioctl', ion, ION_IOC_HEAP_QUERY, ionQuery({ cnt: 2, heaps: 0x10 }));
          await process.fails('EFAULT', 'ioctl', ion, ION_IOC_HEAP_QUERY, ionQuery({ cnt: 2, heaps: 2n ** 63n }));
          await process.fails('EFAULT', 'ioctlp', ion, ION_IOC_HEAP_QUERY, 0);
        });
      });
    });

    it('says that it hands out descriptors, not handles (ION_IOC_ABI_VERSION)', async function () {
      await withIon(this, async (process, ion) => {
        const { code, bytes } = await process.call('ioctl', ion, ION_IOC_ABI_VERSION, Buffer.alloc(4));
        assert.equal(code, '');
        assert.equal(bytes.readUInt32LE(0), 2);
        await process.fails('EFAULT', 'ioctlp', ion, ION_IOC_ABI_VERSION, 0);
      });
    });

    it('answers ENOTTY to what it does not know', async function () {
      await withIon(this, async (process, ion) => {
        await process.fails(noHandle, 'ioctl', ion, abi.ION_LEGACY_FREE, Buffer.alloc(4));
        await process.fails('ENOTTY', 'ioctl', ion, 0, Buffer.alloc(4));
      });
    });

    it('frees what a process leaves when it ends', async function () {
      const process = await Syscalls.start(this);
      const ion = await process.must('open', '/dev/ion', O_RDONLY);
      for (const mask of heapMasks) {
        const fd = await alloc(process, ion, { len: 100_000, mask });
        await process.map(fd, 100_000);
        assert.equal(await process.must('lseek', fd, 0, SEEK_SET), 0);
      }
      assert.equal(counters('ion').buffers, heapMasks.length);
      await process.end();
      await eventually(() => assert.deepEqual(counters('ion'), idleCounters.ion));
    });
  });
}

describeModules('the parameters of ION', () => {
  it('takes every mask for the system heap (ignore_heap_mask=1)', async function () {
    await withParameters('ion', ['ignore_heap_mask=1'], () =>
      withIon(this, async (process, ion) => {
        for (const mask of [0, 1 << 5, ION_CONTIG_HEAP, ION_DMA_HEAP, 0xffffffff]) {
          const fd = await alloc(process, ion, { len: PAGE, mask });
          assert.equal(heapLines().find(({ bytes }) => Number(bytes) > 0)?.heap, 'ion_system_heap');
          await process.must('close', fd);
        }
      }),
    );
  });

  it('hands out no more than max_bytes', async function () {
    await withParameters('ion', [`max_bytes=${10 * PAGE}`], async () => {
      assert.equal(readFileSync('/sys/class/misc/ion/max_bytes', 'utf8'), `${10 * PAGE}\n`);
      await withIon(this, async (process, ion) => {
        const first = await alloc(process, ion, { len: 9 * PAGE, mask: ION_SYSTEM_HEAP });
        const tooMuch = ionAllocation({ len: PAGE + 1, mask: ION_SYSTEM_HEAP });
        await process.fails('ENOMEM', 'ioctl', ion, ION_IOC_ALLOC, tooMuch);
        await process.must('close', await alloc(process, ion, { len: PAGE, mask: ION_SYSTEM_HEAP }));
        await process.must('close', first);
      });
    });
  });
});
