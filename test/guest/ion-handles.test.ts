// SPDX-License-Identifier: MIT
/** The handle interface of ION, call by call, in a machine whose ion_lite has legacy_abi=1. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readlinkSync, rmdirSync, writeFileSync } from 'node:fs';
import { arch, execPath } from 'node:process';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { Exporter, openHeap } from 'dmabuf';
import { IonClient } from 'dmabuf/ion-handles';
import * as abi from './abi.ts';
import { vgemCard, vividCamera, vividWith, whileImported, withDriver } from './drivers.ts';
import { alloc as allocModern, heapMasks } from './ion.ts';
import {
  childScript,
  counters,
  debugfs,
  describeModules,
  eventually,
  fdinfo,
  hasOwnDmaHeaps,
  heapLines,
  idleCounters,
  leavesNoPage,
  load,
  PAGE,
  program,
  saysCached,
  skipWithout,
  suiteWithParameters,
  unload,
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
  Syscalls,
} from './syscalls.ts';

const {
  ION_LEGACY_ALLOC,
  ION_LEGACY_ALLOC_V0,
  ION_LEGACY_CUSTOM,
  ION_LEGACY_FLUSH,
  ION_LEGACY_FLUSH_V0,
  ION_LEGACY_FREE,
  ION_LEGACY_GET_FLAGS,
  ION_LEGACY_GET_FLAGS_V0,
  ION_LEGACY_IMPORT,
  ION_LEGACY_IMPORT_V0,
  ION_LEGACY_MAP,
  ION_LEGACY_SHARE,
  ION_LEGACY_SYNC,
} = abi;
const { ionLegacyAllocation, ionLegacyCustom, ionLegacyFd, ionLegacyFlags, ionLegacyFlush, ionLegacyHandle } = abi;

/** `{u32 height, width, bpp, flags, handle, pitch; u64 size}` and `{u32 handle, flags; s32 fd}` */
const DRM_IOCTL_MODE_CREATE_DUMB = 0xc02064b2;
const DRM_IOCTL_PRIME_HANDLE_TO_FD = 0xc00c642d;

const int = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
};

/** A client: a process with /dev/ion open. */
class Client {
  readonly process: Syscalls;
  readonly ion: number;

  private constructor(process: Syscalls, ion: number) {
    this.process = process;
    this.ion = ion;
  }

  static async open(process: Syscalls): Promise<Client> {
    return new Client(process, await process.must('open', '/dev/ion', O_RDONLY));
  }

  async call(request: number, bytes: Buffer): Promise<Buffer> {
    const answer = await this.process.call('ioctl', this.ion, request, bytes);
    assert.equal(answer.code, '', `0x${request.toString(16)} ${bytes.toString('hex')}`);
    return answer.bytes;
  }

  fails(code: string, request: number, bytes: Buffer): Promise<void> {
    return this.process.fails(code, 'ioctl', this.ion, request, bytes);
  }

  async alloc(data: Parameters<typeof ionLegacyAllocation>[0]): Promise<number> {
    return ionLegacyHandle(await this.call(ION_LEGACY_ALLOC, ionLegacyAllocation(data)));
  }

  async free(handle: number): Promise<void> {
    await this.call(ION_LEGACY_FREE, int(handle));
  }

  async share(handle: number, request = ION_LEGACY_SHARE): Promise<number> {
    const bytes = await this.call(request, ionLegacyFd(handle, -1));
    assert.equal(bytes.readInt32LE(0), handle);
    return bytes.readInt32LE(4);
  }

  async import(fd: number): Promise<number> {
    const bytes = await this.call(ION_LEGACY_IMPORT, ionLegacyFd(-1, fd));
    assert.equal(bytes.readInt32LE(4), fd);
    return bytes.readInt32LE(0);
  }
}

/** Runs a test with a process that has a client, and checks that nothing of it is left. */
async function withClient(context: Mocha.Context, body: (client: Client, process: Syscalls) => Promise<void>) {
  await using process = await Syscalls.start(context);
  const client = await Client.open(process);
  const { fds } = process;
  await body(client, process);
  assert.equal(process.fds, fds);
  await process.must('close', client.ion);
  await eventually(() => assert.deepEqual(counters('ion'), idleCounters.ion));
}

const SYSTEM = abi.ION_SYSTEM_HEAP;

/** Of each block that the page allocator gives a process meanwhile. */
async function ordersOf(pid: number, body: () => unknown): Promise<number[]> {
  const instance = '/sys/kernel/tracing/instances/handles';
  const event = `${instance}/events/kmem/mm_page_alloc`;
  mkdirSync(instance);
  try {
    writeFileSync(`${event}/filter`, `common_pid == ${pid}`);
    writeFileSync(`${event}/enable`, '1');
    await body();
    writeFileSync(`${event}/enable`, '0');
    const text = readFileSync(`${instance}/trace`, 'utf8');
    return [...text.matchAll(/ order=(\d+) /g)].map(([, order]) => Number(order));
  } finally {
    rmdirSync(instance);
  }
}

/** The kernels that look at each access closely take as long for far fewer. */
const { DMABUF_ROUNDS = '1000' } = process.env;
const CYCLES = Number(DMABUF_ROUNDS) * 1000;

describeModules('the handle interface of ION', () => {
  it('is off unless it is asked for: each call is one nobody knows', async function () {
    await using process = await Syscalls.start(this);
    const client = await Client.open(process);
    await client.fails('ENOTTY', ION_LEGACY_FREE, int(0));
    await client.fails('ENOTTY', ION_LEGACY_ALLOC, ionLegacyAllocation({ len: PAGE, mask: SYSTEM }));
    await client.fails('ENOTTY', ION_LEGACY_SHARE, ionLegacyFd(1));
    assert.throws(() => IonClient.open(), { code: 'ENOTTY', message: /legacy_abi=1/ });
  });

  describe('with legacy_abi=1', () => {
    suiteWithParameters(
      'ion',
      'legacy_abi=1',
      'heaps=4:dma:ion_dma_heap,1:system_contig:contig,0:system:ion_system_heap,2:carveout:carveout:1M,3:protected:secured',
    );

    it('allocates, shares, maps and frees', async function () {
      await withClient(this, async (client, process) => {
        for (const flags of [0, 1]) {
          const handle = await client.alloc({ len: PAGE + 1, align: PAGE, mask: SYSTEM, flags });
          assert(handle > 0);
          assert.deepEqual(counters('ion'), { buffers: 1, bytes: 2 * PAGE });
          const fd = await client.share(handle);
          assert.equal(fdinfo(fd, 'flags', process.pid), '02000002');
          assert.equal(await process.must('lseek', fd, 0, SEEK_END), 2 * PAGE);
          const at = await process.map(fd, 2 * PAGE);
          await process.must('poke', at + PAGE, Buffer.from('seen'));
          await client.free(handle);
          // the descriptor and the mapping have it, the client no more
          await client.fails('EINVAL', ION_LEGACY_SHARE, ionLegacyFd(handle));
          assert.equal(`${await process.peek(at + PAGE, 4)}`, 'seen');
          await process.must('close', fd);
          await process.must('munmap', at, 2 * PAGE);
          await eventually(() => assert.deepEqual(counters('ion'), idleCounters.ion));
        }
      });
    });

    it('has one handle of a buffer in a client, as often as it was given', async function () {
      await withClient(this, async (client, process) => {
        const handle = await client.alloc({ len: PAGE, mask: SYSTEM });
        const fd = await client.share(handle, ION_LEGACY_MAP);
        assert.equal(await client.import(fd), handle);
        assert.equal((await client.call(ION_LEGACY_IMPORT_V0, int(fd))).readInt32LE(0), handle);
        // As programs of that age pass it, whatever the number says.
        for (const says of [0, -1, 999]) {
          const answer = await client.call(ION_LEGACY_IMPORT_V0, ionLegacyFd(says, fd));
          assert.deepEqual([answer.readInt32LE(0), answer.readInt32LE(4)], [handle, fd]);
        }
        await process.must('close', fd);
        for (let i = 0; i < 6; i++) await client.free(handle);
        await client.fails('EINVAL', ION_LEGACY_FREE, int(handle));
        assert.deepEqual(counters('ion'), idleCounters.ion);
      });
    });

    it('shares a buffer between clients, the last of which frees it', async function () {
      await withClient(this, async (client, process) => {
        const other = await Client.open(process);
        const handle = await client.alloc({ len: PAGE, mask: SYSTEM });
        await other.fails('EINVAL', ION_LEGACY_SHARE, ionLegacyFd(handle));
        const fd = await client.share(handle);
        const theirs = await other.import(fd);
        await process.must('close', fd);
        await client.free(handle);
        assert.equal(counters('ion').buffers, 1);
        const again = await other.share(theirs);
        await process.must('close', other.ion);
        assert.equal(counters('ion').buffers, 1);
        await process.must('close', again);
      });
    });

    it('takes its handles with a client that is closed', async function () {
      await withClient(this, async (client, process) => {
        const other = await Client.open(process);
        for (const mask of heapMasks) await other.alloc({ len: PAGE, mask });
        assert.equal(counters('ion').buffers, heapMasks.length);
        await process.must('close', other.ion);
        await eventually(() => assert.deepEqual(counters('ion'), idleCounters.ion));
        await client.fails('EINVAL', ION_LEGACY_FREE, int(1));
      });
    });

    it('refuses handles that are none', async function () {
      await withClient(this, async (client) => {
        const freed = await client.alloc({ len: PAGE, mask: SYSTEM });
        await client.free(freed);
        for (const handle of [freed, 0, -1, 1 << 30, -(2 ** 31), 2 ** 31 - 1]) {
          await client.fails('EINVAL', ION_LEGACY_FREE, int(handle));
          for (const request of [ION_LEGACY_SHARE, ION_LEGACY_MAP]) {
            await client.fails('EINVAL', request, ionLegacyFd(handle));
          }
          await client.fails('EINVAL', ION_LEGACY_GET_FLAGS, ionLegacyFlags(handle));
          if (handle !== 0) {
            await client.fails('EINVAL', ION_LEGACY_FLUSH[0] as number, ionLegacyFlush({ handle, at: 0, len: 1 }));
          }
        }
      });
    });

    it("takes another client's handles for its own of that number, or for none", async function () {
      await withClient(this, async (client, process) => {
        const [second, third] = [await Client.open(process), await Client.open(process)];
        const ours = await client.alloc({ len: PAGE, mask: SYSTEM, flags: 1 });
        const theirs = await second.alloc({ len: 2 * PAGE, mask: SYSTEM });
        assert.equal(ours, theirs);
        const flagsOf = async (of: Client) =>
          abi.ionLegacyFlagsOf(await of.call(ION_LEGACY_GET_FLAGS, ionLegacyFlags(ours)));
        assert.deepEqual([await flagsOf(client), await flagsOf(second)], [1, 0]);
        const fd = await client.share(ours);
        const at = await process.map(fd, PAGE);
        const range = ionLegacyFlush({ handle: ours, at, len: PAGE });
        for (const request of ION_LEGACY_FLUSH) {
          await client.call(request, range);
          await second.fails('EINVAL', request, range);
          await third.fails('EINVAL', request, range);
        }
        for (const request of [ION_LEGACY_SHARE, ION_LEGACY_MAP]) {
          await third.fails('EINVAL', request, ionLegacyFd(ours));
          const shared = await second.share(theirs, request);
          assert.equal(await process.must('lseek', shared, 0, SEEK_END), 2 * PAGE);
          await process.must('close', shared);
        }
        await third.fails('EINVAL', ION_LEGACY_GET_FLAGS, ionLegacyFlags(ours));
        await third.fails('EINVAL', ION_LEGACY_FREE, int(ours));
        await second.free(theirs);
        await second.fails('EINVAL', ION_LEGACY_FREE, int(ours));
        assert.deepEqual(counters('ion'), { buffers: 1, bytes: PAGE });
        assert.equal(await flagsOf(client), 1);
        await process.must('munmap', at, PAGE);
        for (const each of [fd, second.ion, third.ion]) await process.must('close', each);
      });
    });

    it('answers EFAULT for a bad pointer, and gives nothing', async function () {
      await withClient(this, async (client, process) => {
        const handle = await client.alloc({ len: PAGE, mask: SYSTEM });
        const fd = await client.share(handle);
        const faults = (request: number, at: number) => process.fails('EFAULT', 'ioctlp', client.ion, request, at);
        const firstForms = arch === 'arm';
        const silent = [ION_LEGACY_FREE, ION_LEGACY_SYNC, ION_LEGACY_CUSTOM, ...ION_LEGACY_FLUSH];
        if (firstForms) silent.push(...ION_LEGACY_FLUSH_V0);
        // What they read, and answer in.
        const answering: [request: number, bytes: Buffer][] = [
          [ION_LEGACY_ALLOC, ionLegacyAllocation({ len: PAGE, mask: SYSTEM })],
          [ION_LEGACY_SHARE, ionLegacyFd(handle)],
          [ION_LEGACY_MAP, ionLegacyFd(handle)],
          [ION_LEGACY_IMPORT, ionLegacyFd(0, fd)],
          [ION_LEGACY_IMPORT_V0, int(fd)],
          [ION_LEGACY_GET_FLAGS, ionLegacyFlags(handle)],
        ];
        if (firstForms) {
          answering.push([ION_LEGACY_ALLOC_V0, abi.ionLegacyAllocationV0(PAGE, abi.ION_DMA_HEAP)]);
          answering.push([ION_LEGACY_GET_FLAGS_V0, ionLegacyFlags(handle)]);
        }
        for (const request of [...silent, ...answering.map(([number]) => number)]) {
          for (const at of [0, 0x10]) await faults(request, at);
        }
        const page = await process.must('mmap', PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (const [request, bytes] of answering) {
          await process.must('mprotect', page, PAGE, PROT_READ | PROT_WRITE);
          await process.must('poke', page, bytes);
          await process.must('mprotect', page, PAGE, PROT_READ);
          await faults(request, page);
        }
        assert.deepEqual(counters('ion'), { buffers: 1, bytes: PAGE });
        await process.must('munmap', page, PAGE);
        await process.must('close', fd);
        // It was given once: what could not be told was taken back.
        await client.free(handle);
        await client.fails('EINVAL', ION_LEGACY_FREE, int(handle));
      });
    });

    it('answers EMFILE where no descriptor is left to share by', async function () {
      await withClient(this, async (client, process) => {
        await process.must('nofile', process.fds);
        // A handle takes none.
        const handle = await client.alloc({ len: PAGE, mask: SYSTEM });
        for (const request of [ION_LEGACY_SHARE, ION_LEGACY_MAP]) {
          await client.fails('EMFILE', request, ionLegacyFd(handle));
        }
        await process.must('nofile', 1024);
        await process.must('close', await client.share(handle));
        await client.free(handle);
        assert.deepEqual(counters('ion'), idleCounters.ion);
      });
    });

    it('refuses allocations that cannot be', async function () {
      await withClient(this, async (client) => {
        for (const [code, data] of [
          ['EINVAL', { len: 0, mask: SYSTEM }],
          ['ENODEV', { len: PAGE, mask: 0 }],
          ['ENODEV', { len: PAGE, mask: 1 << 31 }],
          ['EINVAL', { len: PAGE, align: 3, mask: SYSTEM }],
          ['EINVAL', { len: PAGE, align: PAGE + 1, mask: SYSTEM }],
          ['ENOMEM', { len: 2 ** 31, mask: abi.ION_DMA_HEAP }],
        ] as const) {
          await client.fails(code, ION_LEGACY_ALLOC, ionLegacyAllocation(data));
        }
      });
    });

    it('aligns pieces of a carveout', async function () {
      await withClient(this, async (client) => {
        const largestFree = () => Number(readFileSync('/sys/class/misc/ion/heap2/largest_free', 'utf8')) / PAGE;
        const all = largestFree();
        const handles = [];
        for (const [align, left] of [
          [0, all - 1],
          [PAGE, all - 2],
          [16 * PAGE, all - 17],
          [all * PAGE, all - 17],
        ] as const) {
          const data = ionLegacyAllocation({ len: PAGE, align, mask: 1 << 2 });
          // The carveout is so aligned itself, and its first page is taken.
          if (align === all * PAGE) await client.fails('ENOMEM', ION_LEGACY_ALLOC, data);
          else handles.push(ionLegacyHandle(await client.call(ION_LEGACY_ALLOC, data)));
          assert.equal(largestFree(), left, `aligned to ${align}`);
        }
        for (const handle of handles) await client.free(handle);
      });
    });

    for (const [name, mask] of [
      ['dma', abi.ION_DMA_HEAP],
      ['system_contig', abi.ION_CONTIG_HEAP],
    ] as const) {
      it(`aligns what comes from ${name}, up to a mebibyte`, async function () {
        if (!existsSync('/sys/kernel/tracing')) this.skip();
        await withClient(this, async (client, process) => {
          const orders = () =>
            ordersOf(process.pid, async () => client.free(await client.alloc({ len: PAGE, align, mask })));
          let align = PAGE;
          // The kernel's caches take blocks of up to 8 pages.
          assert(Math.max(0, ...(await orders())) < 4);
          for (const order of [4, 6]) {
            align = PAGE << order;
            assert((await orders()).includes(order), `no block of order ${order}`);
          }
          align = 2 ** 20;
          const large = await client.alloc({ len: PAGE, align, mask });
          assert.deepEqual(counters('ion'), { buffers: 1, bytes: 2 ** 20 });
          await client.free(large);
          for (align of [2 ** 21, 2 ** 31, ...(arch === 'arm' ? [] : [2 ** 62])]) {
            await client.fails('ENOMEM', ION_LEGACY_ALLOC, ionLegacyAllocation({ len: PAGE, align, mask }));
          }
        });
      });
    }

    it('imports what is a dma-buf of /dev/ion', async function () {
      await withClient(this, async (client, process) => {
        const fd = await allocModern(process, client.ion, { len: PAGE, mask: SYSTEM, flags: 1 });
        const handle = await client.import(fd);
        await client.free(handle);
        await process.must('close', fd);
        for (const kind of ['cma-mem', 'memfd'] as const) {
          using heap = openHeap(kind);
          using foreign = heap.allocSync(PAGE);
          const taken = await process.take(foreign.fd);
          await client.fails('EINVAL', ION_LEGACY_IMPORT, ionLegacyFd(0, taken));
          await process.must('close', taken);
        }
        using exporter = Exporter.open();
        using exported = exporter.buffer();
        const ours = await process.take(exported.fd);
        for (const other of [client.ion, ours]) await client.fails('EINVAL', ION_LEGACY_IMPORT, ionLegacyFd(0, other));
        await process.must('close', ours);
        for (const bad of [-1, 999]) {
          await client.fails('EBADF', ION_LEGACY_IMPORT, ionLegacyFd(0, bad));
          await client.fails('EBADF', ION_LEGACY_IMPORT_V0, int(bad));
          await client.fails('EBADF', ION_LEGACY_SYNC, ionLegacyFd(0, bad));
        }
      });
    });

    describe("with a dma-buf of another driver's", () => {
      before(() => load('vgem'));
      after(() => eventually(() => unload('vgem')));

      it('refuses it in every call that takes one', async function () {
        await withClient(this, async (client, process) => {
          const card = await process.must('open', vgemCard(), O_RDWR);
          const dumb = Buffer.alloc(32);
          for (const [at, value] of [1, PAGE / 4, 32].entries()) dumb.writeUInt32LE(value, 4 * at);
          const made = await process.call('ioctl', card, DRM_IOCTL_MODE_CREATE_DUMB, dumb);
          assert.equal(made.code, '');
          const prime = Buffer.alloc(12);
          prime.writeUInt32LE(made.bytes.readUInt32LE(16));
          prime.writeUInt32LE(O_CLOEXEC | O_RDWR, 4);
          const { code, bytes } = await process.call('ioctl', card, DRM_IOCTL_PRIME_HANDLE_TO_FD, prime);
          assert.equal(code, '');
          const fd = bytes.readInt32LE(8);
          assert.match(readlinkSync(`/proc/${process.pid}/fd/${fd}`), /dmabuf/);
          const at = await process.map(fd, PAGE);
          await client.fails('EINVAL', ION_LEGACY_IMPORT, ionLegacyFd(0, fd));
          await client.fails('EINVAL', ION_LEGACY_IMPORT_V0, int(fd));
          await client.fails('EINVAL', ION_LEGACY_SYNC, ionLegacyFd(0, fd));
          const handle = await client.alloc({ len: PAGE, mask: SYSTEM });
          for (const request of ION_LEGACY_FLUSH) {
            await client.fails('EINVAL', request, ionLegacyFlush({ fd, at, len: PAGE }));
            await client.fails('EINVAL', request, ionLegacyFlush({ handle, at, len: PAGE }));
          }
          await client.free(handle);
          await process.must('munmap', at, PAGE);
          await process.must('close', fd);
          await process.must('close', card);
        });
      });
    });

    it('knows the first forms of programs of 32 bits, and those of no other width', async function () {
      await withClient(this, async (client, process) => {
        const first = abi.ionLegacyAllocationV0(PAGE, abi.ION_DMA_HEAP | 1);
        const wide = arch !== 'arm';
        // The arguments of the other width: the size is in the number.
        const others = wide
          ? [0xc0144900, 0xc0144d00, 0xc0084d03, 0xc0084906]
          : [0xc0204900, 0xc0184d00, 0xc0104d03, 0xc0104906];
        for (const request of others) await client.fails('ENOTTY', request, Buffer.alloc(32));
        // Nor is there one that is a byte longer, or has no argument, or goes one way only.
        for (const request of [ION_LEGACY_ALLOC, ION_LEGACY_FREE, ION_LEGACY_SHARE, ION_LEGACY_GET_FLAGS]) {
          for (const other of [request + 0x10000, request & 0xffff, request - 0x40000000, request + 0x50]) {
            await client.fails('ENOTTY', other, Buffer.alloc(32));
          }
        }
        if (wide) {
          for (const request of [ION_LEGACY_ALLOC_V0, ...ION_LEGACY_FLUSH_V0, ION_LEGACY_GET_FLAGS_V0]) {
            await client.fails('ENOTTY', request, Buffer.alloc(32));
          }
          return;
        }
        const handle = (await client.call(ION_LEGACY_ALLOC_V0, first)).readInt32LE(12);
        assert.equal(heapLines().find(({ bytes }) => bytes !== '0')?.heap, 'ion_dma_heap');
        const flags = await client.call(ION_LEGACY_GET_FLAGS_V0, ionLegacyFlags(handle));
        assert.equal(abi.ionLegacyFlagsOf(flags), 1);
        const fd = await client.share(handle);
        const at = await process.map(fd, PAGE);
        for (const request of ION_LEGACY_FLUSH_V0) {
          await client.call(request, ionLegacyFlush({ handle, at, len: PAGE }));
          await client.fails('EINVAL', request, ionLegacyFlush({ handle, at, len: PAGE + 1 }));
        }
        await process.must('munmap', at, PAGE);
        await process.must('close', fd);
        await client.free(handle);
        // Bit 0 says cached: it never means heap 0.
        for (const flags of [0, 1]) {
          await client.fails('ENODEV', ION_LEGACY_ALLOC_V0, abi.ionLegacyAllocationV0(PAGE, flags));
        }
        await client.fails('EINVAL', ION_LEGACY_ALLOC_V0, abi.ionLegacyAllocationV0(0, abi.ION_DMA_HEAP));
      });
    });

    it('is one client by all descriptors of the open file, the last of which ends it', async function () {
      await withClient(this, async (client, process) => {
        const copy = await process.must('take', process.pid, client.ion);
        const [first, second] = [
          await client.alloc({ len: PAGE, mask: SYSTEM }),
          await client.alloc({ len: 2 * PAGE, mask: SYSTEM }),
        ];
        await process.must('ioctl', copy, ION_LEGACY_FREE, int(first));
        await client.fails('EINVAL', ION_LEGACY_FREE, int(first));
        await process.must('close', copy);
        assert.deepEqual(counters('ion'), { buffers: 1, bytes: 2 * PAGE });
        await client.free(second);
      });
    });

    it('takes its handles with a client that is killed, not those of others', async function () {
      await withClient(this, async (client, process) => {
        const victim = spawn(execPath, [childScript('client.mjs'), `${PAGE}`], { stdio: ['pipe', 'pipe', 'inherit'] });
        const ended = once(victim, 'exit');
        const [line] = await Promise.race([once(victim.stdout, 'data'), ended.then(() => ['null'])]);
        const fd = await process.must('take', `${victim.pid}`, JSON.parse(`${line}`)?.fd ?? -1);
        const handle = await client.import(fd);
        await process.must('close', fd);
        assert.deepEqual(counters('ion'), { buffers: 2, bytes: 3 * PAGE });
        victim.kill('SIGKILL');
        assert.deepEqual(await ended, [null, 'SIGKILL']);
        await eventually(() => assert.deepEqual(counters('ion'), { buffers: 1, bytes: 2 * PAGE }));
        const again = await client.share(handle);
        const at = await process.map(again, 2 * PAGE);
        await process.must('poke', at + PAGE, Buffer.from('still here'));
        await process.must('munmap', at, 2 * PAGE);
        await process.must('close', again);
      });
    });

    it('says the flags of a buffer', async function () {
      await withClient(this, async (client) => {
        for (const flags of [0, 1]) {
          const handle = await client.alloc({ len: PAGE, mask: SYSTEM, flags: flags | 0xfffffff0 });
          assert.equal(abi.ionLegacyFlagsOf(await client.call(ION_LEGACY_GET_FLAGS, ionLegacyFlags(handle))), flags);
          await client.free(handle);
        }
        assert(saysCached(true));
      });
    });

    it('cleans and invalidates a range of one mapping of the caller, and no other', async function () {
      await withClient(this, async (client, process) => {
        const length = 4 * PAGE;
        for (const flags of [0, 1]) {
          const handle = await client.alloc({ len: length, mask: SYSTEM, flags });
          const fd = await client.share(handle);
          const at = await process.map(fd, length);
          const other = await client.alloc({ len: length, mask: SYSTEM });
          const otherFd = await client.share(other);
          for (const request of ION_LEGACY_FLUSH) {
            await client.call(request, ionLegacyFlush({ handle, at, len: length }));
            await client.call(request, ionLegacyFlush({ handle, fd: -1, at: at + PAGE, offset: PAGE, len: 1 }));
            await client.call(request, ionLegacyFlush({ handle, at, offset: 3 * PAGE, len: PAGE }));
            await client.call(request, ionLegacyFlush({ fd, at, len: length }));
            for (const wrong of [
              { handle, at: 0, len: 1 },
              { handle, at, len: 0 },
              { handle, at: at + PAGE, offset: 0xfffff000, len: 1 },
              { handle, at: at - 1, len: 2 },
              { handle, at, len: length + 1 },
              { handle, at: at + length - 1, len: 2 },
              { handle, at, offset: 1, len: length },
              { handle, at: at + PAGE, offset: 3 * PAGE, len: PAGE + 1 },
              { handle, at, offset: 0xffffffff, len: 2 },
              { handle, at, len: 0xffffffff },
              { handle: other, at, len: 1 },
              { fd: otherFd, at, len: 1 },
              { fd: client.ion, at, len: 1 },
            ]) {
              await client.fails('EINVAL', request, ionLegacyFlush(wrong));
            }
            await client.fails('EBADF', request, ionLegacyFlush({ fd: -1, at, len: 1 }));
          }
          // What mprotect has split is two mappings.
          await process.must('mprotect', at + PAGE, PAGE, PROT_READ);
          for (const request of ION_LEGACY_FLUSH) {
            await client.fails('EINVAL', request, ionLegacyFlush({ handle, at, len: length }));
            await client.call(request, ionLegacyFlush({ handle, at: at + PAGE, offset: PAGE, len: PAGE }));
          }
          await process.must('mprotect', at + PAGE, PAGE, PROT_READ | PROT_WRITE);
          await client.call(ION_LEGACY_SYNC, ionLegacyFd(0, fd));
          for (const one of [fd, otherFd]) await process.must('close', one);
          await process.must('munmap', at, length);
          for (const one of [handle, other]) await client.free(one);
        }
      });
    });

    it('secures a protected heap while nobody maps its buffers, for root alone', async function () {
      await withClient(this, async (client, process) => {
        const [secure, unsecure] = [1, 2].map((cmd) => ionLegacyCustom(cmd, 3)) as [Buffer, Buffer];
        const handle = await client.alloc({ len: PAGE, mask: 1 << 3 });
        const fd = await client.share(handle);
        const refused = () => process.fails('EPERM', 'mmap', PAGE, PROT_READ | PROT_WRITE, 1, fd, 0);
        await refused();
        await client.call(ION_LEGACY_CUSTOM, unsecure);
        await client.call(ION_LEGACY_CUSTOM, unsecure);
        const at = await process.map(fd, PAGE);
        await client.fails('EBUSY', ION_LEGACY_CUSTOM, secure);
        await process.must('munmap', at, PAGE);
        await client.call(ION_LEGACY_CUSTOM, secure);
        await client.call(ION_LEGACY_CUSTOM, secure);
        await refused();
        for (const [cmd, heap, code] of [
          [0, 3, 'ENOTTY'],
          [3, 3, 'ENOTTY'],
          [1, 0, 'EINVAL'],
          [2, 31, 'EINVAL'],
          [1, 32, 'EINVAL'],
        ] as const) {
          await client.fails(code, ION_LEGACY_CUSTOM, ionLegacyCustom(cmd, heap));
        }
        await process.must('close', fd);
        await client.free(handle);
        await process.must('setuid', 65534);
        await client.fails('EPERM', ION_LEGACY_CUSTOM, unsecure);
      });
    });

    it('keeps the access mode of what was imported', async function () {
      if (hasOwnDmaHeaps()) this.skip();
      await withClient(this, async (client, process) => {
        const heap = await process.must('open', '/dev/dma_heap/system', O_RDONLY);
        const { code, bytes } = await process.call(
          'ioctl',
          heap,
          abi.DMA_HEAP_IOCTL_ALLOC,
          abi.dmaHeapAllocation({ len: PAGE, fdFlags: O_CLOEXEC | O_RDONLY }),
        );
        assert.equal(code, '');
        const fd = abi.dmaHeapFd(bytes);
        const handle = await client.import(fd);
        const again = await client.share(handle);
        assert.equal(fdinfo(again, 'flags', process.pid), '02000000');
        await process.fails('EACCES', 'mmap', PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
        for (const each of [again, fd, heap]) await process.must('close', each);
        await client.free(handle);

        // What it may do with any of them it may do with the handle.
        const both = await client.alloc({ len: PAGE, mask: SYSTEM });
        const open = await client.share(both);
        assert.equal(await client.import(open), both);
        assert.equal(fdinfo(open, 'flags', process.pid), '02000002');
        await process.must('close', open);
        for (let i = 0; i < 2; i++) await client.free(both);
      });
    });

    describe('from open to release, by a program that knows nothing of us', () => {
      const { path, missing } = program('ion-flow');
      // Programs of 64 bits never had the first form.
      for (const form of arch === 'arm' ? [[], ['first']] : [[]]) {
        for (const [name, mask] of [
          ['dma', abi.ION_DMA_HEAP],
          ['contig', abi.ION_CONTIG_HEAP],
          ['carveout', 1 << 2],
          // never heap 0 in the first form
          ...(form.length === 0 ? [['system', SYSTEM] as const] : []),
        ] as const) {
          for (const flags of [0, 1]) {
            it(`${name}${flags === 0 ? '' : ', cached'}${form.length === 0 ? '' : ', in the first form'}`, async function () {
              skipWithout(missing, this);
              await promisify(execFile)(path, [`${mask}`, `${flags}`, ...form]);
              await eventually(() => assert.deepEqual(counters('ion'), idleCounters.ion));
            });
          }
        }
      }
    });

    describe('in TypeScript', () => {
      it('hands a buffer from client to client, and on as a DmaBuf', async () => {
        await leavesNoPage(async () => {
          using first = IonClient.open();
          using second = IonClient.open();
          const handle = await first.alloc(PAGE + 1, { mask: SYSTEM, cached: true });
          assert.equal(first.cached(handle), true);
          using buffer = first.share(handle);
          assert.equal(buffer.size, 2 * PAGE);
          using mapping = buffer.map();
          new Uint8Array(mapping.buffer).fill(7);
          first.cleanCaches(handle, mapping);
          const theirs = second.import(buffer);
          assert.equal(second.import(buffer.fd), theirs);
          first.free(handle);
          buffer.close();
          using again = second.share(theirs);
          second.sync(again);
          again.read((bytes) => assert(bytes.every((byte) => byte === 7)));
          second.invalidateCaches(theirs, mapping, { offset: PAGE, length: 1 });
          second.cleanInvalidateCaches(theirs, mapping);
          second.free(theirs);
          second.free(theirs);
          assert.throws(() => second.free(theirs), { code: 'EINVAL', syscall: 'ioctl', path: '/dev/ion' });
        });
      });

      it('says what is wrong with an argument', async () => {
        await leavesNoPage(() => {
          using client = IonClient.open();
          using heap = openHeap('memfd');
          using memfd = heap.allocSync(PAGE);
          using mapping = memfd.map();
          const handle = client.allocSync(PAGE, { mask: SYSTEM });
          const closed = client.share(handle);
          const gone = closed.map();
          gone.close();
          using moved = memfd.map();
          // Of Node.js 22 and later. Before, there is no way to move it out.
          if (moved.buffer.transfer) assert.equal(moved.buffer.transfer().byteLength, PAGE);
          else moved.close();
          closed.close();
          for (const [code, call] of [
            ['ERR_OUT_OF_RANGE', () => client.allocSync(0, { mask: 1 })],
            ['ERR_OUT_OF_RANGE', () => client.allocSync(PAGE, { mask: 2 ** 32 })],
            ['ERR_INVALID_ARG_TYPE', () => client.allocSync(PAGE, {} as never)],
            ['ERR_INVALID_ARG_VALUE', () => client.allocSync(PAGE, { mask: 1, heap: 'x' } as never)],
            ['ERR_OUT_OF_RANGE', () => client.allocSync(PAGE, { mask: 1, align: 3 })],
            ['ERR_INVALID_ARG_TYPE', () => client.allocSync(PAGE, { mask: 1n } as never)],
            ['ERR_OUT_OF_RANGE', () => client.allocSync(Number.NaN, { mask: 1 })],
            ['ENODEV', () => client.allocSync(PAGE, { mask: 1 << 30 })],
            ['ERR_OUT_OF_RANGE', () => client.free(-1)],
            ['EINVAL', () => client.free(0)],
            ['ERR_OUT_OF_RANGE', () => client.allocSync(PAGE, { mask: -(2 ** 31) - 1 })],
            ['ENODEV', () => client.allocSync(PAGE, { mask: 1 << 31 })],
            ['ERR_INVALID_ARG_TYPE', () => client.share('1' as never)],
            ['EINVAL', () => client.share(handle + 1)],
            ['EINVAL', () => client.import(memfd)],
            ['EBADF', () => client.import(9999)],
            ['ERR_INVALID_ARG_TYPE', () => client.import(null as never)],
            ['EINVAL', () => client.cleanCaches(handle, mapping)],
            ['EINVAL', () => client.cleanCaches(0, mapping)],
            ['ERR_OUT_OF_RANGE', () => client.cleanCaches(handle, mapping, { length: PAGE + 1 })],
            ['ERR_INVALID_ARG_VALUE', () => client.cleanCaches(handle, mapping, { len: 1 } as never)],
            ['ERR_INVALID_ARG_TYPE', () => client.cleanCaches(0, mapping.buffer as never)],
            ['ERR_DMABUF_CLOSED', () => client.cleanCaches(handle, gone)],
            ['ERR_DMABUF_CLOSED', () => client.invalidateCaches(handle, moved)],
            ['ERR_DMABUF_CLOSED', () => client.import(closed)],
            ['ERR_DMABUF_CLOSED', () => client.sync(closed)],
            ['ERR_INVALID_ARG_TYPE', () => client.cleanCaches(handle, mapping.buffer as never)],
            ['EINVAL', () => client.secureHeap(0)],
            ['ERR_OUT_OF_RANGE', () => client.secureHeap(32)],
          ] as [string, () => unknown][]) {
            assert.throws(call, { code }, String(call));
          }
          assert.throws(() => client.allocSync(PAGE, { mask: 1 << 30 }), {
            message: /no heap of the mask 0x40000000.*ion_dma_heap \(4\)/,
          });
          assert.throws(() => client.free(handle + 7), {
            message: new RegExp(`no handle ${handle + 7}: it was given up`),
          });
          assert.throws(() => client.import(9999), { message: /no such descriptor/ });
          assert.throws(() => client.cleanCaches(handle, mapping), { message: /is of another buffer than the handle/ });
          assert.throws(() => client.cleanCaches(handle + 7, mapping), { message: /has no handle/ });
          assert.throws(() => client.allocSync(PAGE, { mask: 1 << 2, align: 2 ** 30 }), {
            code: 'ENOMEM',
            message: /a multiple of 1073741824 bytes/,
          });
          assert.throws(() => client.allocSync(4 << 20, { mask: 1 << 2 }), {
            code: 'ENOMEM',
            message: /of its 1024 KiB the largest that is free has 1024 KiB/,
          });
          client.close();
          client.close();
          assert.throws(() => client.free(handle), { code: 'ERR_DMABUF_CLOSED' });
          assert.throws(() => client.cleanCaches(0, mapping), { code: 'ERR_DMABUF_CLOSED' });
          assert.throws(() => IonClient.open(''), { code: 'ERR_INVALID_ARG_VALUE', message: /must not be empty/ });
        });
      });

      it('gives up thousands of handles, with gaps among them, when it is closed', async () => {
        await leavesNoPage(async () => {
          const client = IonClient.open();
          const handles = Array.from({ length: 3000 }, () => client.allocSync(PAGE, { mask: SYSTEM }));
          for (const [i, handle] of handles.entries()) if (i % 3 === 0) client.free(handle);
          assert.equal(counters('ion').buffers, 2000);
          client.close();
          await eventually(() => assert.deepEqual(counters('ion'), idleCounters.ion));
        });
      });

      it('takes the handle 0 for none, also where descriptor 0 is a buffer', async () => {
        await leavesNoPage(async () => {
          using client = IonClient.open();
          using buffer = client.share(client.allocSync(PAGE, { mask: SYSTEM }));
          const child = spawn(execPath, [childScript('zero-handle.mjs')], { stdio: [buffer.fd, 'pipe', 'inherit'] });
          const ended = once(child, 'exit');
          assert(child.stdout);
          const said = await text(child.stdout);
          assert.deepEqual(await ended, [0, null]);
          assert.equal(said, 'EINVAL EINVAL EINVAL\n');
        });
      });

      it('is no client of a device that has no handles', () => {
        for (const path of ['/dev/cma_mem', '/dev/exporter', '/dev/null', '/dev/dma_heap/system'].filter(existsSync)) {
          assert.throws(() => IonClient.open(path), { syscall: 'ioctl', path, message: /^(?!.*legacy_abi)/ });
        }
      });

      it('has no handle of a client that is closed meanwhile', async () => {
        await leavesNoPage(async () => {
          const client = IonClient.open();
          const pending = client.alloc(PAGE, { mask: SYSTEM });
          client.close();
          await assert.rejects(pending, { code: 'ERR_DMABUF_CLOSED' });
          await eventually(() => assert.deepEqual(counters('ion'), idleCounters.ion));
        });
      });

      it('lets the CPU into a protected heap, and keeps it out again', async () => {
        await leavesNoPage(() => {
          using client = IonClient.open();
          const handle = client.allocSync(PAGE, { mask: 1 << 3 });
          using buffer = client.share(handle);
          assert.throws(() => buffer.map(), { code: 'EPERM' });
          client.secureHeap(3, false);
          const mapping = buffer.map();
          assert.throws(() => client.secureHeap(3), { code: 'EBUSY', message: /Close the mappings/ });
          mapping.close();
          client.secureHeap(3);
          assert.throws(() => buffer.map(), { code: 'EPERM' });
        });
      });
    });

    it('gives a million handles, one after the other', async function () {
      this.timeout(600_000);
      await leavesNoPage(() => {
        using client = IonClient.open();
        using buffer = client.share(client.allocSync(PAGE, { mask: SYSTEM }));
        using other = IonClient.open();
        const { fd } = buffer;
        for (let i = 0; i < CYCLES; i++) other.free(other.import(fd));
      });
    });

    it('is in debugfs: who has how many handles, and bytes of which heap', async function () {
      await withClient(this, async (client, process) => {
        const clients = () =>
          readFileSync(debugfs('ion/clients'), 'utf8')
            .trimEnd()
            .split('\n')
            .map((line) => line.trim().split(/ +/));
        const handles = [
          await client.alloc({ len: PAGE, mask: SYSTEM }),
          await client.alloc({ len: 3 * PAGE, mask: SYSTEM }),
          await client.alloc({ len: 2 * PAGE, mask: 1 << 2 }),
        ];
        assert.deepEqual(clients(), [
          ['pid', 'handles', 'bytes', 'name'],
          [`${process.pid}`, '3', `${6 * PAGE}`, 'syscalls'],
          ['2', `${4 * PAGE}`, 'ion_system_heap', '0'],
          ['1', `${2 * PAGE}`, 'carveout', '2'],
        ]);
        for (const handle of handles) await client.free(handle);
        assert.deepEqual(clients().slice(1), [[`${process.pid}`, '0', '0', 'syscalls']]);
      });
    });
  });

  describe('with max_handles=2', () => {
    suiteWithParameters('ion', 'legacy_abi=1', 'max_handles=2');

    it('gives all clients together no more than two', async function () {
      await withClient(this, async (client, process) => {
        const other = await Client.open(process);
        const handle = await client.alloc({ len: PAGE, mask: SYSTEM });
        const fd = await client.share(handle);
        const theirs = await other.import(fd);
        const full = () => client.fails('ENOSPC', ION_LEGACY_ALLOC, ionLegacyAllocation({ len: PAGE, mask: SYSTEM }));
        await full();
        await full();
        assert.equal(counters('ion').buffers, 1);
        // That is none more.
        assert.equal(await client.import(fd), handle);
        await client.free(handle);
        using heap = openHeap('ion', { heap: 'ion_system_heap' });
        using another = heap.allocSync(PAGE);
        const taken = await process.take(another.fd);
        await client.fails('ENOSPC', ION_LEGACY_IMPORT, ionLegacyFd(0, taken));
        await client.fails('ENOSPC', ION_LEGACY_IMPORT_V0, int(taken));
        await client.fails('ENOSPC', ION_LEGACY_IMPORT_V0, ionLegacyFd(-1, taken));
        await process.must('close', taken);
        using third = IonClient.open();
        assert.throws(() => third.allocSync(PAGE, { mask: SYSTEM }), { code: 'ENOSPC', message: /max_handles/ });
        await other.free(theirs);
        await client.free(await client.alloc({ len: PAGE, mask: SYSTEM }));
        await process.must('close', fd);
        await process.must('close', other.ion);
      });
    });
  });
});

describeModules('a device that has buffers of the handle interface', () => {
  suiteWithParameters('ion', 'legacy_abi=1');
  const capture = withDriver('vivid', vividWith('device'), 'v4l2-capture');
  const frame = 320 * 180 * 3;

  for (const cached of [true, false]) {
    it(`is kept in step with them, ${cached ? '' : 'not '}cached, by the cache calls`, async () => {
      await leavesNoPage(async () => {
        using client = IonClient.open();
        const handles = [0, 1].map(() => client.allocSync(frame, { mask: abi.ION_DMA_HEAP, cached }));
        using first = client.share(handles[0] ?? 0);
        using second = client.share(handles[1] ?? 0);
        await whileImported(capture, [vividCamera(), '2', 'queue'], [first, second], () => {
          assert.equal(readFileSync(debugfs('ion/buffers'), 'utf8').match(/^ +vivid\.0 +mapped$/gm)?.length, 2);
          using mapping = first.map();
          const bytes = new Uint8Array(mapping.buffer).fill(7);
          const [handle = 0] = handles;
          client.cleanCaches(handle, mapping, { offset: PAGE, length: 1 });
          client.cleanInvalidateCaches(handle, mapping);
          client.invalidateCaches(handle, mapping, { offset: PAGE });
          client.sync(first);
          assert(bytes.every((byte) => byte === 7));
        });
      });
    });
  }
});
