// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { heaps, openHeap } from 'dmabuf';
import { describeHeap } from '../heap-contract.ts';
import { leavesNothing } from '../support.ts';

for (const kind of ['memfd', 'ion', 'dma-heap', 'cma-mem', 'udmabuf'] as const) describeHeap(kind);

describe('openHeap', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('always finds memfd, which is no DMA memory', () => {
    assert.deepEqual(heaps().at(-1), { kind: 'memfd', path: 'memfd', name: 'memfd', contiguous: false, dma: false });
  });

  it('says which path is not there, and which module makes it', async () => {
    await leavesNothing(() => {
      for (const path of ['/dev/nowhere', '/nowhere/ion', join(folder, 'x')]) {
        assert.throws(() => openHeap(path), { code: 'ENOENT', errno: -2, syscall: 'open', path });
      }
    });
  });

  it('refuses what is no heap', async () => {
    await leavesNothing(() => {
      const file = join(folder, 'file');
      writeFileSync(file, '');
      for (const path of ['/dev/null', '/dev/zero', folder, file]) {
        assert.throws(() => openHeap(path), { code: 'ENOTTY', errno: -25, syscall: 'ioctl', path });
      }
    });
  });

  it('refuses what is neither a kind nor a path', () => {
    for (const wrong of ['', 'heap', 'ION', 'toString', 'ion\0', '/dev/ion\0']) {
      const details = { errno: -22, syscall: 'open', path: wrong };
      assert.throws(() => openHeap(wrong), { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', ...details });
    }
    for (const wrong of [undefined, null, 7, {}, []]) {
      assert.throws(() => openHeap(wrong as never), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
    }
    const call = { errno: -22, syscall: 'open', path: '/dev/ion' };
    assert.throws(() => openHeap('ion', null as never), { code: 'ERR_INVALID_ARG_TYPE', ...call });
    assert.throws(() => openHeap('ion', { heap: {} as never }), { code: 'ERR_INVALID_ARG_TYPE', ...call });
    assert.throws(() => openHeap('ion', { heap: -1 }), { code: 'ERR_OUT_OF_RANGE', ...call });
  });

  it('says which heaps there are where the one wanted is not', () => {
    assert.throws(() => openHeap('memfd', { heap: 'other' }), {
      code: 'ENODEV',
      errno: -19,
      path: 'memfd',
      message: /its only heap is memfd/,
    });
  });

  it('says what /dev/udmabuf wants where it is not', function () {
    if (existsSync('/dev/udmabuf')) this.skip();
    const expected = { code: 'ENOENT', errno: -2, syscall: 'open', path: '/dev/udmabuf', message: /CONFIG_UDMABUF/ };
    assert.throws(() => openHeap('udmabuf'), expected);
    assert(!heaps().some(({ kind }) => kind === 'udmabuf'));
  });
});
