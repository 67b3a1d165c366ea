// SPDX-License-Identifier: MIT
/** What every dma-buf of the modules can do. */
import assert from 'node:assert/strict';
import { CmaMem, type DmaBuf, Exporter, openHeap } from 'dmabuf';
import * as abi from './abi.ts';
import { describeModules, fdinfo, leavesNoPage, PAGE } from './support.ts';
import {
  MAP_PRIVATE,
  MAP_SHARED,
  POLLIN,
  POLLOUT,
  PROT_READ,
  PROT_WRITE,
  SEEK_END,
  SEEK_SET,
  Syscalls,
} from './syscalls.ts';

const { DMA_BUF_IOCTL_SYNC, DMA_BUF_SET_NAME, DMA_BUF_SYNC_END, DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, sync } = abi;

/** One maker of buffers of a few pages for each way to come by one. */
const makers: Readonly<Record<string, { exporter: string; make: () => DmaBuf }>> = {
  exporter: {
    exporter: 'exporter',
    make: () => {
      using exporter = Exporter.open();
      return exporter.buffer();
    },
  },
  'ION, scattered': { exporter: 'ion_lite', make: () => fromHeap('ion', 'ion_system_heap', true) },
  'ION, scattered, not cached': { exporter: 'ion_lite', make: () => fromHeap('ion', 'ion_system_heap', false) },
  'ION, contiguous': { exporter: 'ion_lite', make: () => fromHeap('ion', 'ion_dma_heap', true) },
  'ION, contiguous, not cached': { exporter: 'ion_lite', make: () => fromHeap('ion', 'ion_dma_heap', false) },
  cma_mem: { exporter: 'cma_mem', make: () => fromHeap('cma-mem', 'cma_mem', true) },
  'cma_mem, not cached': { exporter: 'cma_mem', make: () => fromHeap('cma-mem', 'cma_mem', false) },
  'cma_mem region': {
    exporter: 'cma_mem',
    make: () => {
      using cma = CmaMem.open();
      return cma.allocateSync(3 * PAGE).export();
    },
  },
};

function fromHeap(kind: string, name: string, cached: boolean): DmaBuf {
  using heap = openHeap(kind, { heap: name });
  return heap.allocSync(3 * PAGE, { cached });
}

describeModules('a dma-buf of', () => {
  for (const [title, { make, exporter }] of Object.entries(makers)) {
    describe(title, () => {
      /** Runs a test in a process that alone has the buffer. */
      async function alone(
        context: Mocha.Context,
        body: (process: Syscalls, fd: number, size: number) => Promise<void>,
      ): Promise<void> {
        await leavesNoPage(async () => {
          await using process = await Syscalls.start(context);
          const buffer = make();
          const { size } = buffer;
          const fd = await process.take(buffer.fd);
          buffer.close();
          await body(process, fd, size);
        });
      }

      it('tells its size to lseek, and nothing else', async function () {
        await alone(this, async (process, fd, size) => {
          assert.equal(await process.must('lseek', fd, 0, SEEK_END), size);
          assert.equal(await process.must('lseek', fd, 0, SEEK_SET), 0);
          await process.fails('EINVAL', 'lseek', fd, 1, SEEK_END);
          await process.fails('EINVAL', 'lseek', fd, PAGE, SEEK_SET);
        });
      });

      it('is described by fdinfo, and takes a name', async function () {
        await alone(this, async (process, fd, size) => {
          assert.equal(fdinfo(fd, 'exp_name', process.pid), exporter);
          assert.equal(fdinfo(fd, 'size', process.pid), String(size));
          assert.equal(fdinfo(fd, 'name', process.pid), undefined);
          for (const name of ['one', 'another, longer name, 31 bytes!']) {
            await process.must('ioctl', fd, DMA_BUF_SET_NAME, Buffer.from(`${name}\0`));
            assert.equal(fdinfo(fd, 'name', process.pid), name);
          }
          await process.fails('EINVAL', 'ioctl', fd, DMA_BUF_SET_NAME, Buffer.from(`${'n'.repeat(32)}\0`));
          await process.fails('EFAULT', 'ioctlp', fd, DMA_BUF_SET_NAME, 0);
        });
      });

      it('takes brackets of cache sync, paired and unpaired', async function () {
        await alone(this, async (process, fd) => {
          const address = await process.map(fd, PAGE);
          for (const direction of [DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_READ | DMA_BUF_SYNC_WRITE]) {
            for (const end of [DMA_BUF_SYNC_END, 0, 0, DMA_BUF_SYNC_END]) {
              await process.must('ioctl', fd, DMA_BUF_IOCTL_SYNC, sync(direction | end));
            }
          }
          await process.must('poke', address + 200, Buffer.from('still there'));
          assert.equal((await process.peek(address + 200, 11)).toString(), 'still there');
          await process.must('poke', address + 200, Buffer.alloc(11));
          for (const flags of [0, DMA_BUF_SYNC_END, 8, 1n << 32n]) {
            await process.fails('EINVAL', 'ioctl', fd, DMA_BUF_IOCTL_SYNC, sync(flags));
          }
          await process.fails('EFAULT', 'ioctlp', fd, DMA_BUF_IOCTL_SYNC, 0);
          await process.fails('ENOTTY', 'ioctl', fd, 0x4008620f, sync(0));
        });
      });

      it('is mapped as a whole or page by page, never beyond its end', async function () {
        await alone(this, async (process, fd, size) => {
          const whole = await process.map(fd, size);
          await process.must('poke', whole + size - 4, Buffer.from('last'));
          const last = await process.map(fd, PAGE, PROT_READ, size - PAGE);
          assert.equal((await process.peek(last + PAGE - 4, 4)).toString(), 'last');
          await process.must('poke', whole + size - 4, Buffer.alloc(4));

          for (const [length, offset] of [
            [size + 1, 0],
            [size + PAGE, 0],
            [PAGE, size],
            [2 * PAGE, size - PAGE],
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
            await process.fails('EINVAL', 'mmap', length, PROT_READ, MAP_SHARED, fd, offset);
          }
          await process.fails('EFAULT', 'mremap', whole, size, size + PAGE);
        });
      });

      it('is not mapped privately', async function () {
        await alone(this, async (process, fd) => {
          await process.fails('EINVAL', 'mmap', PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        });
      });

      it('is ready to be read and written while no device works on it', async function () {
        await alone(this, async (process, fd) => {
          assert.equal(await process.must('poll', fd, POLLIN | POLLOUT), POLLIN | POLLOUT);
        });
      });
    });
  }
});
