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
    for (const wrong of [{ id: 32 }, { id: -1 }, { size: 0 }, { base: -1 }]) {
      assert.throws(() => heapsParameter([{ ...heap, ...wrong }]), { code: 'ERR_OUT_OF_RANGE' });
    }
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
  });

  it('are the same by require and by import', () => {
    const required = createRequire(import.meta.url)('dmabuf/boards/msm8x60') as typeof msm8x60;
    assert.equal(required.heaps, msm8x60.heaps);
  });
});
