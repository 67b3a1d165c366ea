// SPDX-License-Identifier: MIT
/** The table of heaps that heaps= gives /dev/ion. What a device tree gives it is tested in ./board. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { openHeap } from 'dmabuf';
import * as abi from './abi.ts';
import { describeModules, heapLines, leavesNoPage, load, PAGE, refuses, systemErrorOf, unload } from './support.ts';
import { O_RDONLY, Syscalls } from './syscalls.ts';

const { ION_IOC_ALLOC, ionAllocation, ionFd } = abi;

const carveouts = () => heapLines().filter(({ backing }) => backing === 'carveout');

describeModules('the modules', () => {
  for (const module of ['exporter', 'ion_lite', 'cma_mem']) {
    it(`say what each parameter of ${module} does`, () => {
      const said = execFileSync('modinfo', ['-F', 'parm', module], { encoding: 'utf8' }).trim().split('\n');
      const described = said.map((line) => /^(\w+): ?\S.* \(\w+\)$/.exec(line)?.[1]);
      assert.deepEqual(described.sort(), readdirSync(`/sys/module/${module}/parameters`).sort());
    });
  }
});

describeModules('heaps=', () => {
  before(() => unload('ion_lite'));
  after(() => load('ion_lite'));

  describe('that is right', () => {
    afterEach(() => unload('ion_lite'));

    it('makes one heap of each type, in its order', async () => {
      const names = ['camera', 'a.b_c-D9', 'video', 'dma', 'contig', 'iommu', 'system'];
      const types = ['carveout', 'protected', 'protected', 'dma', 'system_contig', 'iommu', 'system'];
      const sizes = [':2M', ':0x100000', '', '', '', '', ''];
      load('ion_lite', `heaps=${names.map((name, i) => `${31 - i}:${types[i]}:${name}${sizes[i]}`).join(',')}`);
      const backings = ['carveout', 'carveout', 'contiguous', 'contiguous', 'pages', 'scattered', 'scattered'];
      const lines = heapLines().filter(({ id }) => id !== '-');
      assert.deepEqual(
        lines.map(({ heap, id, backing }) => ({ heap, id, backing })),
        names.map((heap, i) => ({ heap, id: `${31 - i}`, backing: backings[i] })),
      );
      await leavesNoPage(() => {
        for (const [i, name] of names.entries()) {
          using heap = openHeap('ion', { heap: name });
          assert.deepEqual([heap.id, heap.type], [31 - i, types[i]]);
          using _buffer = heap.allocSync(2 * PAGE);
          assert.equal(heap.stats().bytes, 2 * PAGE);
        }
      });
    });

    it('places carveouts that follow each other side by side', () => {
      load('ion_lite', 'heaps=1:carveout:a:1M,2:protected:b:64K,3:carveout:c:1,4:system:d,5:carveout:e:1M');
      const [a, b, c, e] = carveouts().map(({ heap, size, base }) => ({
        heap,
        size: Number(size),
        base: Number(base),
      }));
      assert(a && b && c && e);
      assert.deepEqual(
        [a, b, c, e].map(({ heap, size }) => [heap, size]),
        [
          ['a', 1 << 20],
          ['b', Math.max(1 << 16, PAGE)],
          ['c', PAGE],
          ['e', 1 << 20],
        ],
      );
      assert.equal(b.base, a.base + a.size);
      assert.equal(c.base, b.base + b.size);
      const first = Math.min(a.base, e.base);
      assert(first + (first === a.base ? a.size + b.size + c.size : e.size) <= Math.max(a.base, e.base));
    });

    it('takes memory back from a carveout in pieces, and finds the first that is large enough', async () => {
      load('ion_lite', `heaps=7:carveout:small:${8 * PAGE}`);
      await leavesNoPage(async () => {
        using heap = openHeap('ion', { heap: 7 });
        const free = () => (heap.stats().largestFree ?? Number.NaN) / PAGE;
        const pieces = Array.from({ length: 4 }, () => heap.allocSync(2 * PAGE));
        assert.equal(free(), 0);
        const sentence = /small has no piece of memory that large/;
        assert.throws(() => heap.allocSync(1), systemErrorOf('ENOMEM', 12, 'ioctl', '/dev/ion', sentence));
        pieces[1]?.close();
        pieces[3]?.close();
        assert.equal(free(), 2);
        assert.throws(() => heap.allocSync(3 * PAGE), { code: 'ENOMEM' });
        pieces[2]?.close();
        assert.equal(free(), 6);
        using large = heap.allocSync(5 * PAGE);
        assert.equal(free(), 1);
        assert.throws(() => heap.allocSync(9 * PAGE), { code: 'ENOMEM' });
        large.close();
        pieces[0]?.close();
        assert.equal(free(), 8);
      });
    });

    it('shows nobody what a carveout held before', async () => {
      load('ion_lite', `heaps=7:carveout:small:${4 * PAGE}`);
      await leavesNoPage(() => {
        using heap = openHeap('ion', { heap: 7 });
        for (const cached of [true, false, true]) {
          using buffer = heap.allocSync(4 * PAGE, { cached });
          buffer.write((bytes) => {
            assert(bytes.every((byte) => byte === 0));
            bytes.fill(0xa5);
          });
        }
      });
    });

    it('tries the heaps of a mask in its order', async function () {
      load('ion_lite', `heaps=9:carveout:first:${2 * PAGE},0:carveout:second:${PAGE},4:system:last`);
      await using process = await Syscalls.start(this);
      const ion = await process.must('open', '/dev/ion', O_RDONLY);
      const used = () => heapLines().flatMap(({ id, bytes }) => (id === '-' ? [] : [Number(bytes) / PAGE]));
      const fds: number[] = [];
      for (const expected of [
        [1, 0, 0],
        [2, 0, 0],
        [2, 1, 0],
        [2, 1, 1],
      ]) {
        const { code, bytes } = await process.call('ioctl', ion, ION_IOC_ALLOC, ionAllocation({ len: 1, mask: 0x211 }));
        assert.equal(code, '');
        fds.push(ionFd(bytes));
        assert.deepEqual(used(), expected);
      }
      // the last error, of a heap that is full
      await process.fails('ENOMEM', 'ioctl', ion, ION_IOC_ALLOC, ionAllocation({ len: 1, mask: 0x201 }));
      await process.fails('ENODEV', 'ioctl', ion, ION_IOC_ALLOC, ionAllocation({ len: 1, mask: 0x102 }));
      for (const fd of fds) await process.must('close', fd);
      await process.must('close', ion);
    });

    it('has the system heap for every mask with ignore_heap_mask=1, whatever its id', async function () {
      load('ion_lite', 'ignore_heap_mask=1', `heaps=0:carveout:first:${PAGE},30:system:system`);
      await using process = await Syscalls.start(this);
      const ion = await process.must('open', '/dev/ion', O_RDONLY);
      const { code, bytes } = await process.call('ioctl', ion, ION_IOC_ALLOC, ionAllocation({ len: 1, mask: 1 }));
      assert.equal(code, '');
      assert.equal(heapLines().find(({ heap }) => heap === 'system')?.bytes, `${PAGE}`);
      await process.must('close', ionFd(bytes));
      await process.must('close', ion);
    });

    it('may be as long as there are ids', () => {
      load('ion_lite', `heaps=${Array.from({ length: 32 }, (_, id) => `${id}:iommu:heap${id}`).join(',')}`);
      assert.equal(heapLines().filter(({ id }) => id !== '-').length, 32);
    });
  });

  describe('that is wrong is refused, with the entry and the reason', () => {
    const entry = (number: number, name: string, what: RegExp) =>
      new RegExp(`ion_lite: heaps=: entry ${number}${name && `, ${name}`}: ${what.source}`);
    const syntax = /an entry is id:type:name\[:size\[@base\]\]$/;
    const id = /an id is a number from 0 to 31$/;
    const size = /a size is bytes, or a number with K, M or G$/;
    for (const [table, why] of [
      ['', entry(1, '', syntax)],
      ['1', entry(1, '', syntax)],
      ['1:system', entry(1, '', syntax)],
      ['1:system:a,', entry(2, '', syntax)],
      [',1:system:a', entry(1, '', syntax)],
      ['1:carveout:a:1M:2M', entry(1, '', syntax)],
      ['32:system:a', entry(1, '', id)],
      ['-1:system:a', entry(1, '', id)],
      ['x:system:a', entry(1, '', id)],
      [':system:a', entry(1, '', id)],
      ['4294967296:system:a', entry(1, '', id)],
      ['1:system:a,1:dma:b', entry(2, '', /another heap has this id$/)],
      ['1:system:a,2:dma:a', entry(2, 'a', /another heap has this name$/)],
      ['1:system:', entry(1, '', /a name has 1 to 31 characters$/)],
      [`1:system:${'x'.repeat(32)}`, entry(1, '', /a name has 1 to 31 characters$/)],
      ['1:system:a/b', entry(1, '', /a name is made of letters, digits, _, - and \.$/)],
      ['1:system:\u00c0', entry(1, '', /a name is made of letters/)],
      ['1:sytem:a', entry(1, 'a', /unknown type; there are system, system_contig, carveout, dma, iommu, protected$/)],
      ['1:chunk:a', entry(1, 'a', /unknown type/)],
      ['1:carveout:a', entry(1, 'a', /a heap of this type needs a size$/)],
      ['1:system:a:1M', entry(1, 'a', /a heap of this type has no size$/)],
      ['1:dma:a:1M', entry(1, 'a', /a heap of this type has no size$/)],
      ['1:carveout:a:', entry(1, 'a', size)],
      ['1:carveout:a:M', entry(1, 'a', size)],
      ['1:carveout:a:1T', entry(1, 'a', size)],
      ['1:carveout:a:-1', entry(1, 'a', size)],
      // what wraps
      ['1:carveout:a:18446744073709551617', entry(1, 'a', size)],
      ['1:carveout:a:17592186044417M', entry(1, 'a', size)],
      ['1:carveout:a:0', entry(1, 'a', /there are no carveouts of this size$/)],
      ['1:carveout:a:18446744073709551615', entry(1, 'a', /there are no carveouts of this size$/)],
      ['0:system:s,1:carveout:a:64G,2:carveout:b:1M', entry(2, 'a', /there is no such piece of free memory$/)],
      [
        '0:system:s,1:carveout:a:1M,2:protected:b:64G,3:carveout:c:1M',
        entry(3, 'b', /there is no such piece of free memory for it and those before it$/),
      ],
      ['1:carveout:a:1M@x', entry(1, 'a', /a base is a physical address$/)],
      ['1:carveout:a:1M@', entry(1, 'a', /a base is a physical address$/)],
      ['1:carveout:a:1M@0', entry(1, 'a', /it is not inside a reserved region of the device tree$/)],
      ['1:carveout:a:1M@0x50000000', entry(1, 'a', /it is not inside a reserved region of the device tree$/)],
    ] as [string, RegExp][]) {
      it(table === '' ? 'nothing at all' : table, () => refuses('ion_lite', `heaps=${table}`, why));
    }

    it('33 heaps', () => {
      const heaps = Array.from({ length: 33 }, (_, id) => `${id}:iommu:heap${id}`).join(',');
      refuses('ion_lite', `heaps=${heaps}`, /ion_lite: heaps=: more than 32 heaps$/);
    });
  });
});
