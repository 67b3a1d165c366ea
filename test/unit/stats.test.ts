// SPDX-License-Identifier: MIT
/** The figures of a heap, read from files like those of sysfs. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readStats } from '../../lib/heap/stats.ts';

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
});
