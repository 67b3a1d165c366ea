// SPDX-License-Identifier: MIT
/** The figures of a heap, read from files like those of sysfs. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { heapStats } from 'dmabuf';
import { allStats, ifReadable, readLimit, readStats } from '../../lib/heap/stats.ts';

describe('the figures of a heap', () => {
  let device: string;
  beforeEach(() => {
    device = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    mkdirSync(join(device, 'heap0'));
  });
  afterEach(() => rmSync(device, { recursive: true }));

  const write = (figures: Record<string, number>, folder = '') => {
    for (const [name, value] of Object.entries(figures)) writeFileSync(join(device, folder, name), `${value}\n`);
  };
  const read = () => readStats(join(device, 'heap0'), device);

  it('are those that there are', () => {
    write({ buffers: 2, bytes: 12288, peak_bytes: 2 ** 33 }, 'heap0');
    assert.deepEqual(read(), { buffers: 2, bytes: 12288, peakBytes: 2 ** 33 });
    write({ size: 8 << 20, largest_free: 4096 }, 'heap0');
    write({ max_bytes: 1 << 30, bytes: 99 });
    const own = { size: 8 << 20, largestFree: 4096, maxBytes: 1 << 30 };
    assert.deepEqual(read(), { buffers: 2, bytes: 12288, peakBytes: 2 ** 33, ...own });
  });

  it('are none where one is missing', () => {
    assert.equal(read(), undefined);
    write({ buffers: 2, bytes: 12288 }, 'heap0');
    write({ peak_bytes: 1, max_bytes: 1 });
    assert.equal(read(), undefined);
  });

  it('say what they could not be read for, and which of them', () => {
    const path = join(device, 'heap0/buffers');
    mkdirSync(path);
    const expected = { code: 'EISDIR', errno: -21, syscall: 'read', path };
    assert.throws(read, expected);
    assert.throws(read, /^Error: EISDIR: illegal operation on a directory, read '.*buffers'/);
    assert.equal(ifReadable(read), undefined);
  });

  it('have the limit of a device beside them, where it has one', () => {
    assert.equal(readLimit(device), undefined);
    write({ bytes: 4096 });
    assert.equal(readLimit(device), undefined);
    write({ max_bytes: 8192 });
    assert.deepEqual(readLimit(device), { bytes: 4096, maxBytes: 8192 });
  });

  it('are those of all heaps, of those that have some', () => {
    const figures = { buffers: 1, bytes: 4096, peak_bytes: 8192 };
    const stats = { buffers: 1, bytes: 4096, peakBytes: 8192 };
    const heap = (folder: string, name: string) => {
      mkdirSync(join(device, folder), { recursive: true });
      writeFileSync(join(device, folder, 'name'), `${name}\n`);
    };
    assert.deepEqual(allStats(device), []);
    heap('misc/ion/heap20', 'camera');
    heap('misc/ion/heap4', 'dma');
    heap('misc/ion/heap5', 'going');
    heap('misc/ion/power', 'none');
    heap('misc/cma_mem/heap0', 'cma_mem');
    heap('dma_heap/system', 'system');
    mkdirSync(join(device, 'dma_heap/linux,cma'));
    for (const folder of ['misc/ion/heap20', 'misc/ion/heap4', 'misc/cma_mem/heap0', 'dma_heap/system']) {
      write(figures, folder);
    }
    write({ size: 8 << 20, largest_free: 0 }, 'misc/ion/heap20');
    write({ max_bytes: 1 << 20 }, 'misc/ion');
    const limited = { ...stats, maxBytes: 1 << 20 };
    assert.deepEqual(allStats(device), [
      { path: '/dev/ion', id: 4, name: 'dma', ...limited },
      { path: '/dev/ion', id: 20, name: 'camera', ...limited, size: 8 << 20, largestFree: 0 },
      { path: '/dev/cma_mem', name: 'cma_mem', ...stats },
      { path: '/dev/dma_heap/system', name: 'system', ...limited },
    ]);
    assert(Array.isArray(heapStats()));
  });
});
