// SPDX-License-Identifier: MIT
/** What existing clients of ION rely on, on a heap of each type. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { type DmaBuf, openHeap } from 'dmabuf';
import { ION_FLAG_CACHED, ION_IOC_ALLOC, ionAllocation } from './abi.ts';
import { whileImported } from './drivers.ts';
import { alloc, everyHeap, everyHeapTable, heapTable, withDevice } from './ion.ts';
import {
  counters,
  describeModules,
  eventually,
  heapLines,
  idleCounters,
  leavesNoPage,
  PAGE,
  program,
  skipWithout,
  suiteWithParameters,
} from './support.ts';
import { MAP_PRIVATE, MAP_SHARED, O_RDONLY, PROT_READ, PROT_WRITE, Syscalls } from './syscalls.ts';

/** How often, at most. */
const { DMABUF_ROUNDS = '1024' } = process.env;
const rounds = Math.min(1024, Number(DMABUF_ROUNDS));

/** How often, and sizes: a large one costs its zeroes each time, and is as often as others in ../lab. */
const loops = [
  [rounds, 4096, 65536],
  [Math.ceil(rounds / 32), 1048576, 2097152],
] as const;

/** A mebibyte, 64 KiB and three pages: whatever scattered memory is made of. */
const PIECES = (1 << 20) + (64 << 10) + 3 * PAGE;

/** Each heap, its memory cached and not. */
const kinds = everyHeap.flatMap(({ name, id, protected: secured }) =>
  [true, false].map((cached) => ({
    title: `${name}, ${cached ? '' : 'not '}cached`,
    name,
    secured,
    cached,
    mask: 1 << id,
    flags: cached ? ION_FLAG_CACHED : 0,
  })),
);

const number = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

const { path, missing } = program('ion-client');

for (const [title, table, parameters] of [
  ['the default heaps', heapTable, []],
  ['the default heaps, beside the handle interface', heapTable, ['legacy_abi=1']],
  ['a heap of each type', everyHeap, [everyHeapTable]],
] as const) {
  describeModules(`clients of ION with ${title}`, () => {
    suiteWithParameters('ion', ...parameters);

    for (const { name, type } of table) {
      it(`share a buffer of ${name} with another process, its heap found by type ${type}`, async function () {
        skipWithout(missing, this);
        await leavesNoPage(() =>
          whileImported(path, ['share', `${type}`], [], () => {
            const used = heapLines().filter(({ bytes }) => bytes !== '0');
            assert.deepEqual(
              used.map(({ heap, buffers, bytes }) => [heap, buffers, bytes]),
              [[name, '1', '65536']],
            );
          }),
        );
      });
    }

    it('are told ENOMEM for 3 GiB', async function () {
      await withDevice(this, '/dev/ion', async (process, ion) => {
        for (const mask of [...table.map(({ id }) => 1 << id), 0xffffffff]) {
          await process.fails('ENOMEM', 'ioctl', ion, ION_IOC_ALLOC, ionAllocation({ len: 3 * 2 ** 30, mask }));
        }
      });
    });
  });
}

describeModules('clients of ION', () => {
  suiteWithParameters('ion', everyHeapTable);

  /** The lines that c/ion-client.c prints: it checks the memory itself. */
  async function client(context: Mocha.Context, ...job: string[]): Promise<string[]> {
    skipWithout(missing, context);
    let lines: string[] = [];
    await leavesNoPage(async () => {
      const { stdout } = await promisify(execFile)(path, job);
      lines = stdout.trim().split('\n');
    });
    return lines;
  }

  for (const [times, ...sizes] of loops) {
    it(`have buffers of ${sizes.join(' and ')} bytes ${times} times`, async function () {
      assert.deepEqual(
        await client(this, 'sizes', ...[times, ...sizes].map(String)),
        everyHeap.flatMap(({ name }) => sizes.map((size) => `${name} ${size}: ${times}`)),
      );
    });
  }

  it('have buffers of their own in a hundred threads at once', async function () {
    assert.deepEqual(
      await client(this, 'threads', `${16 << 10}`),
      everyHeap.map(({ name }) => `${name}: 100 threads`),
    );
  });

  for (const { title, name, cached, mask, flags } of kinds.filter(({ secured }) => !secured)) {
    describe(`of ${title}`, () => {
      it('find in 16 buffers nothing of those before them', async () => {
        const length = 16 * PAGE;
        const zeroes = Buffer.alloc(length);
        await leavesNoPage(() => {
          for (const value of [0xa5, 0x5a]) {
            using heap = openHeap('ion', { heap: name });
            const buffers: DmaBuf[] = [];
            try {
              for (let i = 0; i < 16; i++) {
                const buffer = heap.allocSync(length, { cached });
                buffers.push(buffer);
                buffer.write((bytes) => {
                  assert.equal(Buffer.compare(bytes, zeroes), 0);
                  bytes.fill(value);
                });
              }
            } finally {
              for (const buffer of buffers) buffer.close();
            }
          }
        });
      });

      it('write through a mapping when all descriptors are closed, and see it in another', async function () {
        await using process = await Syscalls.start(this);
        const ion = await process.must('open', '/dev/ion', O_RDONLY);
        const fd = await alloc(process, ion, { len: 2 * PAGE, mask, flags });
        const whole = await process.map(fd, 2 * PAGE);
        const second = await process.map(fd, PAGE, PROT_READ, PAGE);
        for (const each of [fd, ion]) await process.must('close', each);
        await process.must('poke', whole + PAGE, Buffer.from('still here'));
        assert.equal(`${await process.peek(second, 10)}`, 'still here');
        await process.must('munmap', whole, 2 * PAGE);
        assert.equal(`${await process.peek(second, 10)}`, 'still here');
        assert.equal(counters('ion').buffers, 1);
        await process.must('munmap', second, PAGE);
        assert.deepEqual(counters('ion'), idleCounters.ion);
      });

      it('map any page and see that one', async function () {
        await withDevice(this, '/dev/ion', async (process, ion) => {
          const fd = await alloc(process, ion, { len: PIECES, mask, flags });
          const whole = await process.map(fd, PIECES);
          const last = Math.ceil(PIECES / PAGE) - 1;
          // Round the ends of the pieces, two pages at a time: a mapping may reach from one into the next.
          const mebibyte = (1 << 20) / PAGE;
          const more = mebibyte + (64 << 10) / PAGE;
          const pages = [0, 1, mebibyte - 1, mebibyte, more - 1, more, last - 1, last];
          for (const page of pages) await process.must('poke', whole + page * PAGE, number(page));
          for (const page of pages.filter((each) => pages.includes(each + 1))) {
            const two = await process.map(fd, 2 * PAGE, PROT_READ, page * PAGE);
            assert.deepEqual(await process.peek(two, 4), number(page));
            assert.deepEqual(await process.peek(two + PAGE, 4), number(page + 1));
            await process.must('munmap', two, 2 * PAGE);
          }
          await process.must('munmap', whole, PIECES);
          await process.must('close', fd);
        });
      });

      it('leave nothing when they end with mappings, whole ones and ones with a hole', async function () {
        await using process = await Syscalls.start(this);
        const ion = await process.must('open', '/dev/ion', O_RDONLY);
        const length = 16 * PAGE;
        const fd = await alloc(process, ion, { len: length, mask, flags });
        const [, holed] = [await process.map(fd, length), await process.map(fd, length)];
        await process.must('munmap', holed + 4 * PAGE, 8 * PAGE);
        for (const each of [fd, ion]) await process.must('close', each);
        await process.must('poke', holed + 12 * PAGE, number(12));
        await process.must('poke', holed + 3 * PAGE, number(3));
        await process.fails('EFAULT', 'peek', holed + 4 * PAGE, 4);
        assert.deepEqual(counters('ion'), { buffers: 1, bytes: length });
        await process.end();
        await eventually(() => assert.deepEqual(counters('ion'), idleCounters.ion));
      });
    });
  }

  for (const { title, mask, flags } of kinds.filter(({ secured }) => secured)) {
    it(`map nothing of ${title}, and leave nothing of it when they end`, async function () {
      await using process = await Syscalls.start(this);
      const ion = await process.must('open', '/dev/ion', O_RDONLY);
      const fds: number[] = [];
      for (let i = 0; i < 16; i++) fds.push(await alloc(process, ion, { len: 16 * PAGE, mask, flags }));
      for (const fd of fds) {
        for (const [length, prot, how, offset] of [
          [16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0],
          [PAGE, PROT_READ, MAP_SHARED, 15 * PAGE],
          [PAGE, PROT_READ, MAP_PRIVATE, 0],
        ] as const) {
          await process.fails('EPERM', 'mmap', length, prot, how, fd, offset);
        }
      }
      assert.deepEqual(counters('ion'), { buffers: 16, bytes: 256 * PAGE });
      await process.end();
      await eventually(() => assert.deepEqual(counters('ion'), idleCounters.ion));
    });
  }
});
