// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import * as msm8x60 from 'dmabuf/boards/msm8x60';
import { type BoardTable, grallocRequest, heapMask, heapsParameter } from 'dmabuf/boards/table';

const invalid = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };

describe('a table of heaps', () => {
  const table: BoardTable = [
    { id: 31, type: 'protected', name: 'mm', size: 4096, base: 0x48000000 },
    { id: 0, type: 'system', name: 'system' },
  ];

  it('is said to ion_lite in its order', () => {
    assert.equal(heapsParameter(table), 'heaps=31:protected:mm:4096@0x48000000,0:system:system');
  });

  it('becomes masks by name', () => {
    assert.equal(heapMask(table, 'mm'), 0x80000000);
    assert.equal(heapMask(table, 'system', 'mm'), 0x80000001);
    assert.throws(() => heapMask(table), { ...invalid, message: /"names" must be those of one heap or more/ });
    assert.throws(() => heapMask(null as never, 'mm'), { code: 'ERR_INVALID_ARG_TYPE' });
    assert.throws(() => heapMask(table, 'mm', 'camera'), { ...invalid, message: /no heap camera; .*: mm, system/ });
  });

  it('is refused where the module would not understand it', () => {
    const heap = { id: 1, type: 'carveout', name: 'one', size: 4096 } as const;
    for (const name of ['', 'a b', 'a:b', 'a,b', 'a@b', 'a"', 'n'.repeat(32)]) {
      assert.throws(() => heapsParameter([{ ...heap, name }]), invalid, name);
    }
    assert.throws(() => heapsParameter([heap, { ...heap, name: 'two' }]), { ...invalid, message: /twice/ });
    assert.throws(() => heapsParameter([heap, { ...heap, id: 2 }]), { ...invalid, message: /twice/ });
    assert.throws(() => heapsParameter([{ id: 1, type: 'carveout', name: 'one', base: 0 }]), invalid);
    for (const wrong of [{ id: 32 }, { id: -1 }, { id: 0.5 }, { size: 0 }, { size: 2 ** 43 }, { base: -1 }]) {
      assert.throws(() => heapsParameter([{ ...heap, ...wrong }]), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
    }
    assert.throws(() => heapsParameter([]), { ...invalid, message: /has no heap/ });
    for (const type of ['carveouts', 'chunk', 'custom', '', 'toString', 'dma,2:system:x']) {
      const message = /must be one of system, system_contig, carveout, dma, iommu, protected\. Received '/;
      assert.throws(() => heapsParameter([{ ...heap, type: type as never }]), { ...invalid, message }, type);
    }
    assert.throws(() => heapsParameter([{ id: 1, type: 'carveout', name: 'one' }]), { ...invalid, message: /missing/ });
    for (const type of ['system', 'system_contig', 'dma', 'iommu'] as const) {
      const message = new RegExp(`"size" is for no ${type}, which one is`);
      assert.throws(() => heapsParameter([{ ...heap, type }]), { ...invalid, message });
    }
    assert.throws(() => heapsParameter([{ ...heap, base: 2048 }]), { ...invalid, message: /start of a page/ });
    const placed = { ...heap, size: 8192, base: 0x60000000 };
    const into = { id: 2, type: 'protected', name: 'two', size: 4096, base: 0x60001000 } as const;
    assert.throws(() => heapsParameter([placed, into]), { ...invalid, message: /two in the memory of one/ });
    heapsParameter([placed, { ...into, base: 0x60002000 }]);
  });

  it('is refused where it is no table', () => {
    const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
    for (const wrong of [null, undefined, {}, 'heaps=', 7, [null], [7], new Array(2)]) {
      assert.throws(() => heapsParameter(wrong as never), type);
    }
    const heap = { id: 1, type: 'carveout', name: 'one', size: 4096 };
    for (const name of ['id', 'type', 'name', 'size', 'base']) {
      for (const wrong of [null, {}, ['1'], Symbol('1'), ...(name === 'id' ? ['1', undefined] : [])]) {
        assert.throws(() => heapsParameter([{ ...heap, [name]: wrong }] as never), type, name);
      }
    }
    for (const wrong of [{}, { id: 1 }, { id: 1, type: 'dma' }]) {
      assert.throws(() => heapsParameter([wrong] as never), type);
    }
  });

  it('is refused where the kernel would not take it, and not a character before', () => {
    const of = (length: number): BoardTable =>
      Array.from({ length: 32 }, (_, id) => ({
        id,
        type: 'carveout',
        name: `heap-${id}`.padEnd(length, 'x'),
        size: 1 << 20,
        base: 0x60000000 + id * 2 ** 20,
      }));
    assert.throws(() => heapsParameter(of(31)), {
      ...invalid,
      message: /characters, and the kernel no more than 1023/,
    });
    const fits: BoardTable = Array.from({ length: 32 }, (_, id) => ({
      id,
      type: 'iommu',
      name: `${id}`.padEnd(id < 10 ? 23 : 22, '-'),
    }));
    assert.equal(heapsParameter(fits).length, 'heaps='.length + 1023);
    const longer = fits.map((heap) => (heap.id === 0 ? { ...heap, name: `${heap.name}-` } : heap));
    assert.throws(() => heapsParameter(longer), { ...invalid, message: /takes 1024 characters/ });
  });

  it('gives protected memory to those who ask for it only where the heap has it', () => {
    const gralloc = { heaps: { mm: 1, system: 2 }, usual: ['system'], uncached: 4, alwaysCached: [], secure: 8 };
    assert.deepEqual(grallocRequest(table, gralloc, 1 | 8), { mask: 0x80000000, cached: true });
    const refused = { ...invalid, message: /protected memory, and these heaps have none: system/ };
    for (const usage of [8, 2 | 8, 1 | 2 | 8]) assert.throws(() => grallocRequest(table, gralloc, usage), refused);
  });
});

describe('the MSM8x60 boards', () => {
  const { android40, android41, fromGralloc } = msm8x60;

  it('have their table', () => {
    const carveouts = '20:carveout:camera:8388608,24:carveout:display:8388608,28:carveout:audio:2097152';
    assert.equal(msm8x60.parameter, `heaps=${carveouts},30:system:system`);
    assert.equal(heapMask(msm8x60.heaps, 'audio'), 1 << msm8x60.AUDIO_HEAP_ID);
  });

  const display = 1 << 24;
  const camera = 1 << 20;
  const system = 1 << 30;
  for (const [title, release, usage, mask, cached] of [
    ['4.0: nothing, but a CPU that reads and writes', android40, 0x33, display | system, true],
    ['4.0: the SF heap', android40, 0x20000000, display, true],
    ['4.0: the system heap', android40, 0x80000000, system, true],
    ['4.0: the camera heap, not cached', android40, 0x08100000, camera, false],
    ['4.0: nothing but not cached', android40, 0x00100000, display | system, false],
    ['4.0: the system heap is always cached', android40, 0x80100000, system, true],
    ['4.1: nothing', android41, 0, display | system, true],
    ['4.1: the SF heap, or the system heap', android41, 0x30000000, display | system, true],
    ['4.1: the camera heap, not cached', android41, 0x03000000, camera, false],
    ['4.1: the system heap', android41, 0x10000000, system, true],
  ] as const) {
    it(`translate Android ${title}`, () => {
      assert.deepEqual(fromGralloc(usage, release), { mask, cached });
    });
  }

  it('lack the heaps of other boards, and say so', () => {
    for (const [usage, release, names] of [
      [0x10000000, android40, 'adsp'],
      [0x01000000, android40, 'iommu'],
      [0x28000000 | 0x02000000, android40, 'mm'],
      [0x04000000, android40, 'writeback'],
      [0x40000000, android41, 'iommu'],
      [0xc0000000, android41, 'iommu, mm'],
    ] as const) {
      const message = new RegExp(`has no heap ${names}; its heaps are: camera, display, audio, system`);
      assert.throws(() => fromGralloc(usage, release), { ...invalid, message });
    }
    assert.throws(() => fromGralloc(0x00004000, android40), { ...invalid, message: /none: display, system/ });
    for (const usage of [-1, 2 ** 32, 0.5]) {
      assert.throws(() => fromGralloc(usage, android40), { code: 'ERR_OUT_OF_RANGE' });
    }
    for (const release of [undefined, null, {}, 'android40']) {
      assert.throws(() => fromGralloc(0, release as never), { code: 'ERR_INVALID_ARG_TYPE' });
    }
  });

  it('are the same by require and by import', () => {
    const required = createRequire(import.meta.url)('dmabuf/boards/msm8x60') as typeof msm8x60;
    assert.equal(required.heaps, msm8x60.heaps);
  });
});
