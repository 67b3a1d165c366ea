// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { heaps, openHeap } from 'dmabuf';
import { describeHeap } from '../heap-contract.ts';
import { leavesNothing } from '../support.ts';

for (const kind of ['memfd', 'ion', 'dma-heap', 'cma-mem', 'udmabuf'] as const) describeHeap(kind);

describe('heaps', () => {
  const kinds = ['ion', 'dma-heap', 'cma-mem', 'udmabuf', 'memfd'];

  it('lists what is absent on demand, with what would bring it', async () => {
    await leavesNothing(() => {
      const here = heaps();
      const all = heaps({ absent: true });
      assert.deepEqual([...new Set(all.map(({ kind }) => kind))], kinds);
      for (const info of all.filter(({ path }) => !here.some((other) => other.path === path))) {
        const { error } = info;
        assert.deepEqual([error?.code, error?.syscall, error?.path], ['ENOENT', 'open', info.path]);
        assert.match(error?.message ?? '', /modprobe|CONFIG_UDMABUF/);
      }
    });
  });

  it('does not take what it cannot look into for absent', () => {
    const script = `
      const { openSync, closeSync } = require('node:fs');
      const { heaps } = require('dmabuf');
      heaps({ absent: true });
      const all = [];
      try { for (;;) all.push(openSync('/dev/null')); } catch {}
      const said = heaps({ absent: true }).map(({ kind, error }) => [kind, error?.code]);
      all.forEach((fd) => closeSync(fd));
      console.log(JSON.stringify(said));`;
    const limited = ['-c', 'ulimit -n 64 && exec "$0" -e "$1"', process.execPath, script];
    const { stdout, stderr } = spawnSync('sh', limited, { encoding: 'utf8' });
    const said = JSON.parse(stdout || '[]').filter(([kind]: [string]) => kind === 'dma-heap');
    assert.deepEqual([...new Set(said.map(([, code]: [string, string]) => code))], ['EMFILE'], stderr);
  });

  it('refuses options there are not', () => {
    assert.throws(() => heaps({ absnet: true } as never), { code: 'ERR_INVALID_ARG_VALUE', syscall: 'open' });
    assert.throws(() => heaps({ absent: 1 } as never), { code: 'ERR_INVALID_ARG_TYPE', syscall: 'open' });
    assert.throws(() => heaps(null as never), { code: 'ERR_INVALID_ARG_TYPE', syscall: 'open' });
  });
});

describe('openHeap', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('reads what it was told once', () => {
    let read = 0;
    const options = {
      get heap() {
        return read++ === 0 ? 'memfd' : 5;
      },
    };
    openHeap('memfd', options as never).close();
    assert.equal(read, 1);
  });

  it('always finds memfd, which is no DMA memory', () => {
    const traits = { contiguous: false, dma: false, protected: false, uncached: false };
    assert.deepEqual(heaps().at(-1), { kind: 'memfd', path: 'memfd', name: 'memfd', ...traits });
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

  it('checks every option at the door', () => {
    const call = { errno: -22, syscall: 'open', path: '/dev/ion' };
    const value = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', ...call };
    for (const [wrong, message] of [
      [{ contigous: true }, /has no 'contigous': there are heap, type, contiguous, protected, cached, mask/],
      [{ type: 'carveouts' }, /must be one of system, system_contig, carveout, .*protected. Received 'carveouts'/],
      [{ type: 'toString' }, /must be one of/],
      [{ mask: 1, heap: 0 }, /leave it or 'heap' out/],
      [{ mask: 1, type: 'dma' }, /leave it or 'type' out/],
      [{ mask: 1, cached: true }, /leave it or 'cached' out/],
    ] as const) {
      assert.throws(() => openHeap('ion', wrong as never), { ...value, message });
    }
    const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', ...call };
    for (const name of ['contiguous', 'protected', 'cached', 'type', 'mask']) {
      for (const wrong of [null, {}, Symbol('x'), name === 'mask' ? '1' : 1]) {
        assert.throws(() => openHeap('ion', { [name]: wrong }), type, name);
      }
    }
    for (const mask of [0, -1, 0.5, Number.NaN, 2 ** 32]) {
      assert.throws(() => openHeap('ion', { mask }), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', ...call });
    }
    assert.throws(() => openHeap('memfd', { mask: 1 } as never), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /for heaps of ion/,
    });
  });

  it('opens a heap that has what is needed, and no other', () => {
    openHeap('memfd', { contiguous: false, protected: false, cached: true }).close();
    for (const [needs, words] of [
      [{ contiguous: true }, 'with contiguous: true'],
      [{ protected: true }, 'with protected: true'],
      [{ contiguous: false, cached: false }, 'with contiguous: false and cached: false'],
      [{ type: 'dma', heap: 'memfd' }, '"memfd" of type dma'],
    ] as const) {
      const message = `ENODEV: no such device, open 'memfd'. There is no heap ${words} there; its only heap is memfd.`;
      assert.throws(() => openHeap('memfd', needs as never), { code: 'ENODEV', message });
    }
  });

  it('opens the first heap that has what is needed, of whatever kind', async () => {
    await leavesNothing(() => {
      using memory = openHeap({ dma: false });
      assert.equal(memory.kind, 'memfd');
      const usable = heaps().find(({ dma, error, ...info }) => dma && !error && !info.protected);
      if (usable === undefined) {
        const message =
          /There is no heap with cached: true: there are memfd memfd\. These cannot be opened: ENOENT.*'\/dev\/ion'\. .*modprobe/;
        assert.throws(() => openHeap({ cached: true }), { code: 'ENODEV', errno: -19, syscall: 'open', message });
      } else {
        using heap = openHeap({ cached: true });
        assert.deepEqual([heap.kind, heap.path, heap.name], [usable.kind, usable.path, usable.name]);
      }
      assert.throws(() => openHeap({ dma: false, contiguous: true }), {
        code: 'ENODEV',
        message: /There is no heap with dma: false and contiguous: true/,
      });
    });
  });

  it('checks what is needed at the door', () => {
    const call = { name: 'TypeError', errno: -22, syscall: 'open' };
    const unknown = /has no 'contigous': there are contiguous, protected, cached, dma/;
    assert.throws(() => openHeap({ contigous: true } as never), {
      ...call,
      code: 'ERR_INVALID_ARG_VALUE',
      message: unknown,
    });
    for (const name of ['contiguous', 'protected', 'cached', 'dma']) {
      assert.throws(() => openHeap({ [name]: 1 } as never), { ...call, code: 'ERR_INVALID_ARG_TYPE' }, name);
    }
  });

  it('says where no figures are kept', () => {
    using heap = openHeap('memfd');
    const expected = {
      name: 'DmaBufError',
      code: 'ERR_DMABUF_UNSUPPORTED',
      errno: -95,
      syscall: 'read',
      path: 'memfd',
    };
    assert.throws(() => heap.stats(), { ...expected, message: /No figures are kept of the heap memfd/ });
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
