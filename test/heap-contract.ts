// SPDX-License-Identifier: MIT
/** The one test body that runs against every kind of heap. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { totalmem } from 'node:os';
import { Worker } from 'node:worker_threads';
import { DmaBuf, FdSocket, type Heap, type HeapInfo, type HeapKind, heaps, openHeap } from 'dmabuf';
import { available, leavesNothing, PAGE, wholePages } from './support.ts';

/** How a run of {@link describeHeap} is restricted. */
export interface ContractOptions {
  /** only the heap of this name, where the kind has several; default: each one there is */
  heap?: string;
  /** bytes of a large buffer; default 1 MiB */
  large?: number;
}

/** Where this machine lacks the kind, and what would bring it. */
const absent: Readonly<Record<HeapKind, string>> = {
  ion: 'no /dev/ion: load the module ion_lite',
  'dma-heap': 'no /dev/dma_heap: this kernel is built without DMABUF_HEAPS, and the module ion_lite is not loaded',
  'cma-mem': 'no /dev/cma_mem: load the module cma_mem',
  udmabuf: 'no /dev/udmabuf: this kernel is built without UDMABUF',
  memfd: 'never',
};

/** Declares the tests of one kind of heap; pending, with the reason, where the machine lacks it. */
export function describeHeap(kind: HeapKind, options: ContractOptions = {}): void {
  const found = heaps().filter(
    (info) => info.kind === kind && (options.heap === undefined || info.name === options.heap),
  );
  if (found.length === 0) {
    describe(`heap ${kind}`, () => {
      it(`is not on this machine (${absent[kind]})`);
    });
  }
  for (const info of found) {
    describe(`heap ${kind} ${info.name}`, () => {
      // An ordinary user's machine has heaps that are not theirs; root's has none.
      if (info.protected) it('is for devices only');
      else if (info.error && process.getuid?.() !== 0) it(`cannot be opened by this user: ${info.error.message}`);
      else contract(info, options.large ?? 1 << 20);
    });
  }
}

function contract(info: HeapInfo, large: number): void {
  let heap: Heap;

  beforeEach(() => {
    heap = openHeap(info.path, { heap: info.name });
  });

  afterEach(() => {
    heap.close();
  });

  it('is the heap that heaps() announced', () => {
    const names = Object.keys(info) as (keyof HeapInfo & keyof Heap)[];
    assert.deepEqual(Object.fromEntries(names.map((name) => [name, heap[name]])), info);
  });

  it('says whether it is DMA memory', () => {
    assert.equal(heap.dma, info.kind !== 'memfd');
  });

  it('rounds the size up to whole pages and remembers the length', async () => {
    for (const length of [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, large]) {
      using buffer = await heap.alloc(length);
      assert.equal(buffer.length, length);
      assert.equal(buffer.size, wholePages(length));
      using mapping = buffer.map();
      assert.equal(mapping.buffer.byteLength, length);
    }
  });

  it('hands out zeroed memory', () => {
    for (let round = 0; round < 4; round++) {
      using buffer = heap.allocSync(8 * PAGE);
      using mapping = buffer.map();
      const words = new Uint32Array(mapping.buffer);
      assert(words.every((word) => word === 0));
      words.fill(0xa5a5a5a5);
    }
  });

  it('shows one memory through every mapping and descriptor', () => {
    using buffer = heap.allocSync(2 * PAGE);
    using other = buffer.dup();
    using first = buffer.map();
    using second = other.map({ offset: PAGE, length: 16 });
    new Uint8Array(first.buffer)[PAGE + 3] = 42;
    assert.equal(new Uint8Array(second.buffer)[3], 42);
    assert.notEqual(other.fd, buffer.fd);
    assert.equal(other.inode, buffer.inode);
    using third = heap.allocSync(2 * PAGE);
    assert.deepEqual([other.isSameBuffer(buffer), third.isSameBuffer(buffer)], [true, false]);
  });

  it('brackets access, nested ones and failing ones too', async () => {
    using buffer = heap.allocSync(PAGE);
    assert.equal(
      buffer.write((bytes) => {
        bytes.fill(7);
        return buffer.read((again) => again[9]);
      }),
      7,
    );
    assert.throws(
      () =>
        buffer.read(() => {
          throw new Error('mine');
        }),
      /^Error: mine$/,
    );
    await assert.rejects(
      buffer.write(async () => {
        throw new Error('mine, later');
      }),
      /^Error: mine, later$/,
    );
    assert.equal(await buffer.read(async (bytes) => bytes.length), PAGE);
    assert.equal(
      buffer.read((bytes) => bytes.reduce((sum, byte) => sum + byte, 0)),
      7 * PAGE,
    );
  });

  it('has brackets that span awaits, nested ones too, which end once', async () => {
    await leavesNothing(async () => {
      using buffer = heap.allocSync(PAGE);
      {
        using outer = await buffer.access('write');
        outer.bytes.fill(4);
        {
          using inner = buffer.accessSync('readwrite');
          await inner.bytes.set([1, 2, 3]);
          assert.equal(inner.direction, 'readwrite');
        }
        assert.deepEqual([...outer.bytes.subarray(0, 4)], [1, 2, 3, 4]);
        assert(!outer.closed);
        outer.close();
        outer.close();
        assert(outer.closed);
        assert.throws(() => outer.bytes, { name: 'DmaBufError', code: 'ERR_DMABUF_CLOSED' });
      }
      assert.equal(
        buffer.readwrite((bytes) => bytes[2]),
        3,
      );
      const left = buffer.accessSync('read');
      await assert.rejects(
        (async () => {
          using access = await buffer.access('read');
          throw new Error(`mine, ${access.direction}`);
        })(),
        /^Error: mine, read$/,
      );
      buffer.close();
      assert(left.closed);
      assert.throws(() => left.bytes, { code: 'ERR_DMABUF_CLOSED' });
      left.close();
    });
  });

  it('is ready while no device is at work', async () => {
    using buffer = heap.allocSync(PAGE);
    for (const direction of ['read', 'write', 'readwrite'] as const) await buffer.ready(direction);
    buffer.close();
    await assert.rejects(buffer.ready('read'), { code: 'ERR_DMABUF_CLOSED' });
    await assert.rejects(buffer.access('read'), { code: 'ERR_DMABUF_CLOSED' });
    assert.throws(() => buffer.accessSync('read'), { code: 'ERR_DMABUF_CLOSED' });
  });

  it('shows a picture by its rows, and as Electron takes it', async () => {
    await leavesNothing(() => {
      const planes = [
        { stride: 64, length: 10 * 64 },
        { offset: 640, stride: 32 },
      ];
      using buffer = heap.allocSync(640 + 5 * 32, { planes });
      assert.deepEqual(buffer.planes, [
        { offset: 0, stride: 64, length: 640 },
        { offset: 640, stride: 32, length: 160 },
      ]);
      {
        using access = buffer.accessSync('write');
        for (const row of access.rows(0, 60)) row.fill(1);
        for (const row of access.rows(1, 20)) row.fill(2);
      }
      const bytes = new Uint8Array(buffer.copy());
      assert.equal(bytes.filter((byte) => byte === 1).length, 10 * 60);
      assert.equal(bytes.filter((byte) => byte === 2).length, 5 * 20);
      assert.deepEqual([...bytes.subarray(59, 65)], [1, 0, 0, 0, 0, 1]);
      using copy = buffer.dup();
      const { fd } = copy;
      assert.deepEqual(copy.toNativePixmap(), {
        planes: [
          { fd, offset: 0, stride: 64, size: 640 },
          { fd, offset: 640, stride: 32, size: 160 },
        ],
        modifier: '0',
        supportsZeroCopyWebGpuImport: false,
      });
    });
  });

  it('shares its memory with other threads, where Node.js can', async () => {
    await leavesNothing(async () => {
      using buffer = heap.allocSync(PAGE + 4);
      let shared: SharedArrayBuffer;
      try {
        shared = buffer.mapShared();
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        assert.deepEqual([code, /later one of 22, 24 or 26/.test(message)], ['ERR_DMABUF_UNSUPPORTED', true]);
        // where node_api_create_external_sharedarraybuffer came
        const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
        const since: Record<number, number> = { 22: 23, 24: 16, 26: 1 };
        assert(major < 27 && minor < (since[major] ?? Number.POSITIVE_INFINITY), `Node.js ${process.version} can`);
        return;
      }
      assert.equal(shared.byteLength, PAGE + 4);
      const words = new Int32Array(shared);
      const worker = new Worker('require("node:worker_threads").workerData[0] = 77', { eval: true, workerData: words });
      await once(worker, 'exit');
      assert.equal(Atomics.add(words, 0, 1), 77);
      assert.equal(
        buffer.read((bytes) => bytes[0]),
        78,
      );
    });
  });

  it('closes a buffer inside its own bracket', async () => {
    await leavesNothing(() => {
      const buffer = heap.allocSync(PAGE);
      buffer.write(() => buffer.close());
      assert.throws(() => buffer.read(() => 0), { code: 'ERR_DMABUF_CLOSED' });
    });
  });

  it('copies any part out', () => {
    using buffer = heap.allocSync(2 * PAGE);
    buffer.write((bytes) => bytes.set(bytes.map((_, index) => index % 251)));
    assert.equal(buffer.copy().byteLength, 2 * PAGE);
    const part = new Uint8Array(buffer.copy({ offset: PAGE - 2, length: 5 }));
    assert.deepEqual(
      [...part],
      [PAGE - 2, PAGE - 1, PAGE, PAGE + 1, PAGE + 2].map((index) => index % 251),
    );
  });

  it('names buffers as the kernel shows them', async () => {
    using buffer = await heap.alloc(PAGE, { name: 'frame-ü' });
    assert.equal(buffer.name, 'frame-ü');
    if (info.dma) {
      const fdinfo = readFileSync(`/proc/self/fdinfo/${buffer.fd}`, 'utf8');
      assert.match(fdinfo, /^name:\tframe-ü$/m);
      assert.match(fdinfo, new RegExp(`^exp_name:\t${buffer.exporterName}$`, 'm'));
      assert.notEqual(buffer.exporterName, '');
    } else assert.equal(buffer.exporterName, 'memfd');
    using other = DmaBuf.fromFd(buffer.dup().takeFd());
    assert.equal(other.name, 'frame-ü');
    using nameless = heap.allocSync(PAGE);
    assert.equal(nameless.name, '');
  });

  it('takes 31 bytes of name, and not 32', async () => {
    using buffer = heap.allocSync(PAGE, { name: 'n'.repeat(31) });
    assert.equal(buffer.name.length, 31);
    await leavesNothing(() => {
      for (const name of ['n'.repeat(32), 'ü'.repeat(16)]) {
        assert.throws(() => heap.allocSync(PAGE, { name }), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
      }
      assert.throws(() => heap.allocSync(PAGE, { name: 'a\0b' }), { code: 'ERR_INVALID_ARG_VALUE' });
    });
  });

  it('maps not cached memory where it has such, and says so where not', async () => {
    await leavesNothing(() => {
      assert.equal(info.uncached, info.kind === 'ion' || info.kind === 'cma-mem');
      if (info.uncached) {
        using buffer = heap.allocSync(PAGE, { cached: false });
        buffer.write((bytes) => bytes.set([1, 2, 3]));
        assert.deepEqual([...new Uint8Array(buffer.copy({ length: 4 }))], [1, 2, 3, 0]);
      } else assert.throws(() => heap.allocSync(PAGE, { cached: false }), { code: 'ERR_DMABUF_UNSUPPORTED' });
    });
  });

  it('refuses lengths that are none', async () => {
    await leavesNothing(async () => {
      const call = { errno: -22, syscall: info.dma ? 'ioctl' : 'memfd_create', path: info.path };
      const range = {
        ...call,
        name: 'RangeError',
        code: 'ERR_OUT_OF_RANGE',
        message: /a whole number of bytes from 1/,
      };
      const type = { ...call, name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
      for (const length of [0, -1, 1.5, Number.NaN, -Infinity]) {
        await assert.rejects(heap.alloc(length), range);
        assert.throws(() => heap.allocSync(length), range);
      }
      for (const length of [Infinity, 2 ** 53, 2 ** 64, 2 ** 52, totalmem() + 1]) {
        await assert.rejects(heap.alloc(length), { ...range, errno: -12 });
        assert.throws(() => heap.allocSync(length), { ...range, errno: -12 });
      }
      for (const length of ['4096', null, undefined, {}, 4096n, Symbol('4096')]) {
        await assert.rejects(heap.alloc(length as never), type);
      }
      await assert.rejects(heap.alloc(PAGE, null as never), type);
      await assert.rejects(heap.alloc(PAGE, { name: 7 as never }), type);
      await assert.rejects(heap.alloc(PAGE, { cached: 'no' as never }), type);
      const unknown = { ...type, code: 'ERR_INVALID_ARG_VALUE', message: /has no 'nmae': there are name, cached/ };
      await assert.rejects(heap.alloc(PAGE, { nmae: 'x' } as never), unknown);
    });
  });

  it('refuses more memory than there is with ENOMEM, and lives', async () => {
    await leavesNothing(async () => {
      const expected = { code: 'ENOMEM', errno: -12, path: info.path, message: /memory/ };
      assert.throws(() => heap.allocSync(totalmem()), expected);
      await assert.rejects(heap.alloc(totalmem()), expected);
    });
  });

  if (!info.contiguous) {
    it('refuses all that is available: others are to keep some', async () => {
      await leavesNothing(async () => {
        // udmabuf has a limit of its own besides.
        const expected = { code: info.kind === 'udmabuf' ? /ENOMEM|EINVAL/ : 'ENOMEM' };
        await assert.rejects(heap.alloc(available()), expected);
        assert.throws(() => heap.allocSync(available()), expected);
      });
    });
  }

  it('refuses to map what is not there', async () => {
    using buffer = heap.allocSync(PAGE + 1, { name: 'small' });
    await leavesNothing(() => {
      const call = { errno: -22, syscall: 'mmap', path: readlinkSync(`/proc/self/fd/${buffer.fd}`) };
      assert.match(call.path, /small/);
      const outOfRange = { ...call, name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };
      for (const range of [
        { offset: 1 },
        { offset: -PAGE },
        { offset: 0.5 },
        { offset: 2 * PAGE },
        { offset: 2 ** 53 },
        { length: 0 },
        { length: -1 },
        { length: 2 * PAGE + 1 },
        { length: Number.NaN },
        { offset: PAGE, length: PAGE + 1 },
      ]) {
        assert.throws(() => buffer.map(range), outOfRange, JSON.stringify(range));
      }
      assert.throws(() => buffer.map({ offset: '0' as never }), { ...call, code: 'ERR_INVALID_ARG_TYPE' });
      assert.throws(() => buffer.map(null as never), { ...call, code: 'ERR_INVALID_ARG_TYPE' });
    });
  });

  it('maps nothing beyond its end for a script that says it is larger', async () => {
    using buffer = heap.allocSync(PAGE);
    Object.assign(buffer, { size: 256 * PAGE });
    await leavesNothing(() => {
      for (const range of [{ length: 256 * PAGE }, { offset: PAGE, length: PAGE }]) {
        assert.throws(() => buffer.map(range), { code: 'EINVAL', syscall: 'mmap' });
        assert.throws(() => buffer.copy(range), { code: 'EINVAL', syscall: 'mmap' });
      }
    });
  });

  it('says that a closed thing is closed, and closes twice', async () => {
    await leavesNothing(async () => {
      const own = openHeap(info.path, { heap: info.name });
      const buffer = own.allocSync(PAGE);
      const mapping = buffer.map();
      const view = new Uint8Array(mapping.buffer);
      mapping.close();
      mapping.close();
      assert.equal(view.length, 0);
      assert.equal(view[0], undefined);
      const path = readlinkSync(`/proc/self/fd/${buffer.fd}`);
      buffer.close();
      buffer[Symbol.dispose]();
      for (const use of [
        () => buffer.fd,
        () => buffer.map(),
        () => buffer.copy(),
        () => buffer.dup(),
        () => buffer.takeFd(),
        () => buffer.read(() => 0),
        () => buffer.write(() => 0),
      ]) {
        assert.throws(use, {
          name: 'DmaBufError',
          code: 'ERR_DMABUF_CLOSED',
          errno: -9,
          path,
          message: /make another/,
        });
      }
      own.close();
      own.close();
      const closed = { code: 'ERR_DMABUF_CLOSED', errno: -9, path: info.path };
      assert.throws(() => own.allocSync(PAGE), closed);
      await assert.rejects(own.alloc(PAGE), closed);
    });
  });

  it('finishes allocations of a heap that is closed meanwhile', async () => {
    const pending = [heap.alloc(PAGE), heap.alloc(2 * PAGE), heap.alloc(large)];
    heap.close();
    for (const buffer of await Promise.all(pending)) {
      using owned = buffer;
      assert.equal(
        owned.read((bytes) => bytes[0]),
        0,
      );
    }
  });

  it('keeps memory for a mapping whose buffer is closed', () => {
    const buffer = heap.allocSync(PAGE);
    using mapping = buffer.map();
    buffer.write((bytes) => bytes.fill(9));
    buffer.close();
    assert.equal(new Uint8Array(mapping.buffer)[PAGE - 1], 9);
  });

  it('passes buffers through a socket', async () => {
    await leavesNothing(async () => {
      const [left, right] = FdSocket.pair();
      using buffer = heap.allocSync(PAGE, { name: 'sent' });
      await left.send({ hello: 'there' }, [buffer]);
      const message = await right.receive();
      assert.deepEqual(message?.value, { hello: 'there' });
      using received = DmaBuf.fromFd(message?.fds[0] ?? -1);
      assert.equal(received.inode, buffer.inode);
      received.write((bytes) => bytes.fill(3));
      assert.equal(
        buffer.read((bytes) => bytes[17]),
        3,
      );
      left.close();
      right.close();
    });
  });

  it('leaves nothing after many buffers of mixed size', async () => {
    await leavesNothing(async () => {
      for (let round = 0; round < 200; round++) {
        using buffer = round % 2 === 0 ? heap.allocSync(1 + round * 97) : await heap.alloc(1 + round * 97);
        using mapping = buffer.map();
        new Uint8Array(mapping.buffer).fill(round);
      }
    });
  });
}
