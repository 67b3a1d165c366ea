// SPDX-License-Identifier: MIT
/** What a caller is told where there is no memory, or no permission: the reason, and no other. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeSync } from 'node:fs';
import { totalmem } from 'node:os';
import { CmaMem, DmaBuf, type Heap, heapStats, heaps, type OpenHeapOptions, openHeap } from 'dmabuf';
import { withoutDescriptors } from '../support.ts';
import {
  describeModules,
  hasOwnDmaHeaps,
  idleCounters,
  leavesNoPage,
  onlyScattered,
  PAGE,
  program,
  skipWithout,
  withParameters,
} from './support.ts';

const MIB = 1 << 20;

/** What is said where `allocate` has no memory. */
function shortage(allocate: () => unknown): string {
  let said = '';
  assert.throws(allocate, (error: NodeJS.ErrnoException) => {
    said = error.message;
    return error.code === 'ENOMEM' && error.errno === -12;
  });
  return said;
}

const of = (options: OpenHeapOptions, length: number) => {
  using heap = openHeap('ion', options);
  return shortage(() => heap.allocSync(length));
};

describeModules('where there is no memory', () => {
  const table = 'heaps=20:carveout:camera:2M,28:carveout:audio:1M,1:system_contig:contig,4:dma:dma,0:system:system';

  it('a limit of ion_lite is named, for each of its heaps', async () => {
    await withParameters('ion', [table, `max_bytes=${MIB}`], async () => {
      await leavesNoPage(() => {
        using system = openHeap('ion', { type: 'system' });
        using _taken = system.allocSync(4 * PAGE);
        const reached = new RegExp(
          `hands out 1024 KiB of memory at most \\(max_bytes\\), and ${(4 * PAGE) / 1024} KiB of them are taken`,
        );
        for (const options of [{ heap: 'camera' }, { heap: 'system' }, { heap: 'dma' }, { mask: 0xffffffff }]) {
          for (const length of [MIB, MIB - 4 * PAGE + 1]) {
            const said = of(options, length);
            assert.match(said, reached);
            assert.doesNotMatch(said, /CMA|available/);
          }
        }
        if (hasOwnDmaHeaps()) return;
        for (const { path } of heaps().filter(({ kind }) => kind === 'dma-heap')) {
          using heap = openHeap(path);
          assert.equal(heap.stats().maxBytes, MIB);
          assert.match(
            shortage(() => heap.allocSync(MIB)),
            reached,
          );
        }
      });
    });
  });

  it('a limit of cma_mem is named', async () => {
    await withParameters('cma_mem', [`max_bytes=${8 * PAGE}`], async () => {
      await leavesNoPage(async () => {
        using heap = openHeap('cma-mem');
        using device = CmaMem.open();
        const reached = new RegExp(
          `hands out ${(8 * PAGE) / 1024} KiB of memory at most .*and 0 KiB of them are taken`,
        );
        for (const allocate of [() => heap.allocSync(9 * PAGE), () => device.allocateSync(8 * PAGE + 1)]) {
          const said = shortage(allocate);
          assert.match(said, reached);
          assert.doesNotMatch(said, /CMA/);
        }
        await assert.rejects(device.allocate(9 * PAGE), { code: 'ENOMEM', message: reached });
      });
    });
  });

  it('half of the memory is named, more than which no buffer has', () => {
    const half = new RegExp(`no buffer more than half of this machine's memory, ${Math.floor(totalmem() / 2048)} KiB`);
    assert.match(of({ type: 'system' }, Math.ceil(totalmem() / 2) + PAGE), half);
  });

  it('each carveout of several that are full is named, and nothing of CMA', async () => {
    await withParameters('ion', [table], async () => {
      await leavesNoPage(() => {
        using several = openHeap('ion', { mask: (1 << 20) | (1 << 28) });
        using _camera = several.allocSync(2 * MIB);
        using _audio = several.allocSync(MIB - PAGE);
        const said = shortage(() => several.allocSync(2 * PAGE));
        assert.match(said, /The heap camera has no piece of memory that large: of its 2048 KiB .* has 0 KiB/);
        assert.match(said, new RegExp(`The heap audio has no piece .* of its 1024 KiB .* has ${PAGE / 1024} KiB`));
        assert.match(said, /more in the board's table: heaps= of ion_lite, or else the device tree/);
        assert.doesNotMatch(said, /CMA|available/);
      });
    });
  });

  it('each of several heaps has its own reason', async () => {
    await withParameters('ion', [table], () => {
      const large = onlyScattered();
      const contig = of({ heap: 'contig' }, large);
      assert.match(contig, /for contig, whose buffers are one free block of the page allocator/);
      assert.doesNotMatch(contig, /CMA/);
      const all = of({ mask: ((1 << 20) | (1 << 1) | (1 << 4)) >>> 0 }, large);
      assert.match(all, /heap camera has no piece.* for contig, .* for dma\. .*CMA/);
    });
  });

  it('and no descriptor to find out why, that there is no memory', async () => {
    await withParameters('ion', [table], async () => {
      await leavesNoPage(async () => {
        const large = onlyScattered();
        const tried: Heap[] = [openHeap('ion', { heap: 'camera' }), openHeap('cma-mem')];
        try {
          await withoutDescriptors(() => {
            for (const heap of tried) {
              assert.match(
                shortage(() => heap.allocSync(large)),
                /memory that large/,
              );
              const path = /^\/sys\/dev\/char\/\d+:\d+\/heap\d+\/buffers$/;
              const expected = { code: 'EMFILE', errno: -24, syscall: 'open', path, message: /ulimit -n/ };
              assert.throws(() => heap.stats(), expected);
            }
            assert.throws(heapStats, { code: 'EMFILE', errno: -24, message: /ulimit -n/ });
          });
        } finally {
          for (const heap of tried) heap.close();
        }
      });
    });
  });
});

describeModules('heapStats()', () => {
  it('has the figures of each heap that counts', async () => {
    await leavesNoPage(() => {
      const counted = heaps().flatMap((info) => {
        using heap = openHeap(info.path, { heap: info.name });
        try {
          const { path, name, id } = heap;
          return [{ path, name, ...(id === undefined ? {} : { id }), ...heap.stats() }];
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'ERR_DMABUF_UNSUPPORTED');
          return [];
        }
      });
      const key = ({ path, name }: { path: string; name: string }) => `${path} ${name}`;
      const sorted = <T extends { path: string; name: string }>(all: T[]) =>
        all.sort((a, b) => (key(a) < key(b) ? -1 : 1));
      assert.deepEqual(sorted(heapStats()), sorted(counted));
      assert.equal(counted.filter(({ path }) => path === '/dev/ion').length, 3);
      using heap = openHeap('ion', { heap: 4 });
      using _buffer = heap.allocSync(3 * PAGE);
      const { bytes } = heapStats().find(({ id }) => id === 4) ?? {};
      assert.equal(bytes, idleCounters.ion.bytes + 3 * PAGE);
    });
  });
});

describe('a memfd that is sealed against writing', () => {
  const { path, missing } = program('seal');

  it('can be copied, and its mappings are refused for that', async function () {
    skipWithout(missing, this);
    await leavesNoPage(() => {
      using heap = openHeap('memfd');
      using buffer = heap.allocSync(PAGE + 5);
      writeSync(buffer.fd, 'sealed', PAGE - 1);
      const { status, stderr } = spawnSync(path, { stdio: ['ignore', 'ignore', 'pipe', buffer.fd], encoding: 'utf8' });
      assert.equal(status, 0, stderr);
      const message = /It is sealed against writing.*copy\(\) reads the contents/;
      assert.throws(() => buffer.map(), { code: 'EPERM', message });
      using other = DmaBuf.fromFd(buffer.dup().takeFd());
      assert.throws(() => other.map(), { code: 'EACCES', message: /copy\(\)/ });
      for (const each of [buffer, other]) {
        assert.equal(Buffer.from(each.copy({ offset: PAGE - 1, length: 6 })).toString(), 'sealed');
      }
    });
  });
});
