// SPDX-License-Identifier: MIT
/** What /dev/udmabuf has of its own; the rest stands in ../heap-contract.ts. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { heaps, openHeap } from 'dmabuf';
import { leavesNothing } from '../support.ts';
import { PAGE, systemErrorOf } from './support.ts';

const device = '/dev/udmabuf';
const limitFile = '/sys/module/udmabuf/parameters/size_limit_mb';

describe('udmabuf', () => {
  if (!existsSync(device)) {
    it('is not there, and openHeap() says what the kernel lacks', () => {
      assert.throws(() => openHeap('udmabuf'), systemErrorOf('ENOENT', 2, 'open', device, /CONFIG_UDMABUF.*modprobe/));
      assert(!heaps().some(({ kind }) => kind === 'udmabuf'));
    });
    return;
  }

  let limit = '';
  before(() => {
    limit = readFileSync(limitFile, 'utf8');
  });
  afterEach(() => writeFileSync(limitFile, limit));

  it('says what the largest buffer is, and how to have larger ones', async () => {
    await leavesNothing(async () => {
      using heap = openHeap('udmabuf');
      writeFileSync(limitFile, '3');
      heap.allocSync(3 << 20).close();
      const sentence =
        /has 3 MiB at most: write a larger number, below 2048, to .*size_limit_mb.*udmabuf.size_limit_mb=MIB/;
      const expected = systemErrorOf('EINVAL', 22, 'ioctl', device, sentence);
      assert.throws(() => heap.allocSync((3 << 20) + 1), expected);
      await assert.rejects(heap.alloc(4 << 20), expected);
      writeFileSync(limitFile, '4');
      heap.allocSync(4 << 20).close();
    });
  });

  it('makes a dma-buf of the kernel, and leaves no memfd', async () => {
    await leavesNothing(() => {
      using heap = openHeap('udmabuf');
      const before = readdirSync('/proc/self/fd').length;
      using buffer = heap.allocSync(3 * PAGE);
      assert.equal(readdirSync('/proc/self/fd').length, before + 1);
      assert.equal(buffer.dma, true);
      assert.equal(buffer.exporterName, 'udmabuf');
    });
  });

  it('is known by its device, whatever the path', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    await leavesNothing(() => {
      const path = join(folder, 'link');
      symlinkSync(device, path);
      using heap = openHeap(path);
      assert.deepEqual([heap.kind, heap.path], ['udmabuf', path]);
      assert.throws(
        () => openHeap('udmabuf', { heap: 'system' }),
        systemErrorOf('ENODEV', 19, 'open', device, /its only heap is udmabuf/),
      );
    });
    rmSync(folder, { recursive: true });
  });
});
