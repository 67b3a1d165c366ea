// SPDX-License-Identifier: MIT
/** The heaps of /dev/ion: how one is chosen, and what is counted of it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type HeapStats, heaps, type OpenHeapOptions, openHeap } from 'dmabuf';
import { opened } from './ion.ts';
import {
  describeModules,
  hasOwnDmaHeaps,
  leavesNoPage,
  onlyScattered,
  PAGE,
  suiteWithParameters,
  systemErrorOf,
} from './support.ts';

const found = heaps().filter(({ kind }) => kind === 'ion');

/** What has changed of the figures that go up and down. */
function change(before: HeapStats, after: HeapStats): { buffers: number; bytes: number } {
  return { buffers: after.buffers - before.buffers, bytes: after.bytes - before.bytes };
}

describeModules('the heaps of ION', () => {
  for (const { name, id, type } of found) {
    it(`has ${name} by name, by id and by both with its type`, () => {
      for (const options of [{ heap: name }, { heap: id }, { heap: id, type }] as OpenHeapOptions[]) {
        using heap = openHeap('ion', options);
        assert.deepEqual([heap.name, heap.id, heap.type], [name, id, type]);
      }
    });
  }

  it('counts by heap', () => {
    const [one, other] = found.filter((info) => !info.protected);
    assert(one && other);
    using first = openHeap('ion', { heap: one.name });
    using second = openHeap('ion', { heap: other.name });
    const before = second.stats();
    using _buffer = first.allocSync(PAGE);
    assert.deepEqual(second.stats(), before);
  });

  it('counts no more once the heap is closed, nor for several at once', () => {
    const heap = openHeap('ion');
    heap.close();
    assert.throws(() => heap.stats(), { code: 'ERR_DMABUF_CLOSED', errno: -9, path: '/dev/ion' });
    const mask = found.reduce((all, { id = 0 }) => (all | (1 << id)) >>> 0, 0);
    using several = openHeap('ion', { mask });
    assert.throws(() => several.stats(), { code: 'ERR_DMABUF_UNSUPPORTED', message: /single heap of ion/ });
  });

  it('is counted whatever the path of its device is', () => {
    const folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    const path = join(folder, 'link');
    try {
      symlinkSync('/dev/ion', path);
      using heap = openHeap(path);
      using _buffer = heap.allocSync(PAGE);
      assert.equal(heap.kind, 'ion');
      assert(heap.stats().bytes >= PAGE);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('names those there are, with their types, to whoever needs another', () => {
    const list = found.map(({ type, name, id }) => `${type} ${name} \\(${id}\\)`).join(', ');
    const sentence = new RegExp(`There is no heap of type chunk there; its heaps are: ${list}`);
    assert.throws(() => openHeap('ion', { type: 'chunk' }), systemErrorOf('ENODEV', 19, 'ioctl', '/dev/ion', sentence));
    const bits = found.reduce((all, { id = 0 }) => all | (1 << id), 0);
    const mask = ~bits >>> 0;
    const masked = new RegExp(`no heap of the mask 0x${mask.toString(16)} there; its heaps are: ${list}`);
    assert.throws(() => openHeap('ion', { mask }), systemErrorOf('ENODEV', 19, 'ioctl', '/dev/ion', masked));
  });
});

describeModules('the default heaps of ION', () => {
  it('are in the order of trial', () => {
    assert.deepEqual(
      found.map(({ id, type, name, contiguous, protected: secured, uncached }) => [
        id,
        type,
        name,
        contiguous,
        secured,
        uncached,
      ]),
      [
        [4, 'dma', 'ion_dma_heap', true, false, true],
        [1, 'system_contig', 'ion_system_contig_heap', true, false, true],
        [0, 'system', 'ion_system_heap', false, false, true],
      ],
    );
  });

  it('are opened by type and by need', () => {
    for (const [options, name] of [
      [{ type: 'dma' }, 'ion_dma_heap'],
      [{ type: 'system_contig' }, 'ion_system_contig_heap'],
      [{ type: 'system' }, 'ion_system_heap'],
      [{}, 'ion_system_heap'],
      [{ cached: false }, 'ion_system_heap'],
      [{ contiguous: false }, 'ion_system_heap'],
      [{ contiguous: true, cached: false, protected: false }, 'ion_dma_heap'],
      [{ type: 'system_contig', contiguous: true }, 'ion_system_contig_heap'],
    ] as [OpenHeapOptions, string][]) {
      assert.equal(opened(options), name, JSON.stringify(options));
    }
    const none = systemErrorOf('ENODEV', 19, 'ioctl', '/dev/ion', /no heap with protected: true there/);
    assert.throws(() => openHeap('ion', { protected: true }), none);
  });

  it('are several at once, of which the first that can is taken', async () => {
    await leavesNoPage(() => {
      using several = openHeap('ion', { mask: ((1 << 4) | (1 << 0) | (1 << 31)) >>> 0 });
      const { name, contiguous, id, type } = several;
      assert.deepEqual(
        { name, contiguous, id, type },
        {
          name: 'ion_dma_heap+ion_system_heap',
          contiguous: false,
          id: undefined,
          type: undefined,
        },
      );
      using dma = openHeap('ion', { heap: 4 });
      using system = openHeap('ion', { heap: 0 });
      const before = [dma.stats(), system.stats()] as const;
      using _small = several.allocSync(PAGE);
      using large = several.allocSync(onlyScattered());
      assert.deepEqual(change(before[0], dma.stats()), { buffers: 1, bytes: PAGE });
      assert.deepEqual(change(before[1], system.stats()), { buffers: 1, bytes: large.size });
    });
    using contiguous = openHeap('ion', { mask: (1 << 4) | (1 << 1) });
    assert.equal(contiguous.contiguous, true);
    using single = openHeap('ion', { mask: 1 << 1 });
    assert.deepEqual([single.name, single.id], ['ion_system_contig_heap', 1]);
  });
});

describeModules('a protected heap of ION', () => {
  suiteWithParameters('ion', 'heaps=8:protected:mm:1M,0:system:ion_system_heap');

  it('is opened by nobody who does not ask for it', () => {
    assert.equal(opened({}), 'ion_system_heap');
    assert.equal(opened({ contiguous: false }), 'ion_system_heap');
    assert.equal(opened({ protected: false }), 'ion_system_heap');
    for (const options of [{ protected: true }, { heap: 8 }, { heap: 'mm' }, { type: 'protected' }, { mask: 1 << 8 }]) {
      assert.equal(opened(options as OpenHeapOptions), 'mm');
    }
  });

  it('keeps the CPU out, and says why', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('ion', { protected: true });
      assert.deepEqual([heap.protected, heap.contiguous], [true, true]);
      using buffer = heap.allocSync(PAGE, { name: 'secret' });
      const why = systemErrorOf(
        'EPERM',
        1,
        'mmap',
        '/dmabuf:secret',
        /protected heap: devices may use it, the CPU may not look/,
      );
      assert.throws(() => buffer.map(), why);
      assert.throws(() => buffer.read(() => 0), why);
      assert.throws(() => buffer.write(() => 0), why);
      assert.throws(() => buffer.copy(), why);
      assert.equal(buffer.size, PAGE);
    });
  });
});

describeModules('the figures of the other devices', () => {
  it('are those of cma_mem', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('cma-mem');
      const before = heap.stats();
      using _buffer = heap.allocSync(2 * PAGE);
      const after = heap.stats();
      assert.deepEqual(change(before, after), { buffers: 1, bytes: 2 * PAGE });
      assert(after.peakBytes >= after.bytes && after.maxBytes !== undefined);
    });
  });

  for (const { path, name } of heaps().filter(({ kind }) => kind === 'dma-heap')) {
    it(`are those of the dma-heap ${name} where it is ion_lite's, and none where it is the kernel's`, () => {
      using heap = openHeap(path);
      using _buffer = heap.allocSync(2 * PAGE);
      if (!hasOwnDmaHeaps()) assert(heap.stats().bytes >= 2 * PAGE);
      else assert.throws(() => heap.stats(), { code: 'ERR_DMABUF_UNSUPPORTED', path });
    });
  }

  it('are none of udmabuf', function () {
    if (!heaps().some(({ kind }) => kind === 'udmabuf')) this.skip();
    using heap = openHeap('udmabuf');
    assert.throws(() => heap.stats(), { code: 'ERR_DMABUF_UNSUPPORTED', path: '/dev/udmabuf' });
  });
});
