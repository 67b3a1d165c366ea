// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { release } from 'node:os';
import { heaps, openHeap } from 'dmabuf';
import { describeHeap } from '../heap-contract.ts';
import { available } from '../support.ts';
import { allCounters, describeModules, eventually, hasOwnDmaHeaps, idleCounters, oomKills } from './support.ts';

describe('every kind of heap', () => {
  for (const kind of ['ion', 'dma-heap', 'cma-mem', 'udmabuf', 'memfd'] as const) describeHeap(kind);

  const scattered = heaps().filter(({ kind, contiguous }) => kind === 'memfd' || (kind === 'dma-heap' && !contiguous));
  for (const { path, name } of scattered) {
    it(`${name} gives two at once not more than there is, and nobody is killed`, async () => {
      const before = oomKills();
      using heap = openHeap(path);
      // Each of them fits alone.
      const part = Math.floor(available() * 0.55);
      const both = await Promise.allSettled([heap.alloc(part), heap.alloc(part)]);
      for (const one of both) if (one.status === 'fulfilled') one.value.close();
      assert.deepEqual(both.map((one) => (one.status === 'fulfilled' ? 'had' : one.reason.code)).sort(), [
        'ENOMEM',
        'had',
      ]);
      assert.equal(oomKills(), before);
    });
  }

  after('has given back every page', async () => {
    await eventually(() => assert.deepEqual(allCounters(), idleCounters));
  });
});

describeModules('heaps()', () => {
  it('lists the heaps of the modules', () => {
    const found = heaps().map(({ kind, path, name, contiguous, dma }) => ({ kind, path, name, contiguous, dma }));
    for (const expected of [
      { kind: 'ion', path: '/dev/ion', name: 'ion_dma_heap', contiguous: true, dma: true },
      { kind: 'ion', path: '/dev/ion', name: 'ion_system_contig_heap', contiguous: true, dma: true },
      { kind: 'ion', path: '/dev/ion', name: 'ion_system_heap', contiguous: false, dma: true },
      { kind: 'cma-mem', path: '/dev/cma_mem', name: 'cma_mem', contiguous: true, dma: true },
      { kind: 'memfd', path: 'memfd', name: 'memfd', contiguous: false, dma: false },
    ]) {
      assert.deepEqual(
        found.find(({ kind, name }) => kind === expected.kind && name === expected.name),
        expected,
      );
    }
  });

  it('lists what lies in /dev, no more and no less', () => {
    const names = (wanted: string) =>
      heaps()
        .filter(({ kind }) => kind === wanted)
        .map(({ name }) => name);
    const directory = '/dev/dma_heap';
    assert.deepEqual(names('dma-heap').sort(), existsSync(directory) ? readdirSync(directory).sort() : []);
    assert.deepEqual(names('udmabuf'), existsSync('/dev/udmabuf') ? ['udmabuf'] : []);
  });

  it('lists the own heaps of the lab kernel, which is built to have them', function () {
    if (!release().endsWith('-lab')) this.skip();
    const found = heaps().map(({ kind, name }) => `${kind} ${name}`);
    for (const own of ['dma-heap reserved', 'dma-heap system', 'udmabuf udmabuf']) assert(found.includes(own), own);
  });

  it('lists the dma-heaps ion_lite has where the kernel has none', function () {
    if (hasOwnDmaHeaps()) this.skip();
    const found = heaps().filter(({ kind }) => kind === 'dma-heap');
    assert.deepEqual(
      found.map(({ name, contiguous }) => [name, contiguous]),
      [
        ['reserved', true],
        ['system', false],
      ],
    );
    for (const contiguous of [true, false]) {
      using heap = openHeap('dma-heap', { contiguous });
      assert.equal(heap.name, contiguous ? 'reserved' : 'system');
      assert.equal(heap.stats().bytes, 0);
    }
  });

  it('names every one so that openHeap() opens it', () => {
    for (const { path, name, kind } of heaps()) {
      using heap = openHeap(path, { heap: name });
      assert.deepEqual([heap.path, heap.name, heap.kind], [path, name, kind]);
    }
  });

  it('opens the heaps of ION by number, too, and the system heap where none is named', () => {
    using dma = openHeap('ion', { heap: 4 });
    using system = openHeap('ion', { heap: 0 });
    using usual = openHeap('ion');
    assert.deepEqual([dma.name, system.name, usual.name], ['ion_dma_heap', 'ion_system_heap', 'ion_system_heap']);
  });
});
