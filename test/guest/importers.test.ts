// SPDX-License-Identifier: MIT
/** Dma-bufs in drivers of the kernel: vgem (maps them for a device, up to 6.12) and vivid (writes into them). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { heaps, openHeap } from 'dmabuf';
import { vgemCard, vividCamera, vividWith, whileImported, withDriver } from './drivers.ts';
import { everyHeap, everyHeapTable } from './ion.ts';
import {
  debugfs,
  describeModules,
  eventually,
  leavesNoPage,
  PAGE,
  staysLoaded,
  suiteWithParameters,
} from './support.ts';

/** Each heap of DMA memory, of ION one of each type, its memory cached and not. */
const heapsToTry = [...everyHeap, ...heaps().filter(({ dma, kind }) => dma && kind !== 'ion')].flatMap((info) =>
  (info.uncached ? [true, false] : [true]).map((cached) => ({ ...info, cached })),
);

/** Bytes of vivid's frame. */
const FRAME = 320 * 180 * 3;

/** Whether dma_buf_vmap() takes an exporter's refusal for a bug of its own; the debug kernel's report is known. */
const warnsOfRefusal = !release().startsWith('5.10.') && !release().endsWith('-debug');

/** Runs a program with buffers as its descriptors 3 and up: the numbers in its last line. */
function run(path: string, args: readonly string[], fds: readonly number[]): number[] {
  const said = execFileSync(path, args, { stdio: ['ignore', 'pipe', 'pipe', ...fds], encoding: 'utf8' });
  return (said.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
}

describeModules('vgem', () => {
  suiteWithParameters('ion', everyHeapTable);
  const importer = withDriver('vgem', [], 'vgem-import');

  for (const { kind, name, cached, protected: secured } of heapsToTry) {
    it(`takes a buffer of ${name}, ${cached ? '' : 'not '}cached, and makes whoever polls it wait`, async () => {
      await leavesNoPage(() => {
        using heap = openHeap(kind, { heap: name });
        using buffer = heap.allocSync(7 * PAGE, { cached });
        const args = [vgemCard(), ...(secured ? ['protected'] : [])];
        assert.deepEqual(run(importer, args, [buffer.fd]), [7 * PAGE, buffer.inode]);
        if (secured) assert.throws(() => buffer.map(), { code: 'EPERM', syscall: 'mmap' });
        else buffer.read((bytes) => assert(bytes.every((byte, i) => byte === ((i * 31) & 0xff))));
      });
    });
  }
});

for (const mapping of ['cpu', 'device'] as const) {
  describeModules(mapping === 'cpu' ? 'vivid' : 'vivid, which maps buffers for a device', () => {
    suiteWithParameters('ion', everyHeapTable);
    const capture = withDriver('vivid', vividWith(mapping), 'v4l2-capture');

    // White, yellow, cyan, green, magenta, red, blue, black: which of red, green and blue each has.
    const bars = [0b111, 0b110, 0b011, 0b010, 0b101, 0b100, 0b001, 0b000];

    // For a device it takes one piece.
    const fit = heapsToTry.filter(({ contiguous }) => mapping === 'cpu' || contiguous);
    for (const { kind, name, cached } of fit.filter((info) => !info.protected)) {
      it(`captures a frame into a buffer of ${name}, ${cached ? '' : 'not '}cached`, async () => {
        await leavesNoPage(() => {
          using heap = openHeap(kind, { heap: name });
          using first = heap.allocSync(FRAME, { cached });
          using second = heap.allocSync(FRAME, { cached });
          const [width, height, stride, used, index] = run(capture, [vividCamera(), '2'], [first.fd, second.fd]);
          assert.deepEqual([width, height, stride, used], [320, 180, 960, FRAME]);
          const frame = index === 0 ? first : second;
          frame.read((bytes) => {
            // below the text vivid writes over its picture
            const row = 170 * 960;
            for (const [bar, colour] of bars.entries()) {
              const pixel = row + (bar * 40 + 20) * 3;
              const rgb = [...bytes.subarray(pixel, pixel + 3)];
              const has = rgb.reduce((bits, value) => bits * 2 + (value > 127 ? 1 : 0), 0);
              assert.equal(has, colour, `bar ${bar} is ${rgb}`);
            }
          });
        });
      });
    }

    for (const { name, cached } of fit.filter((info) => info.protected)) {
      const kind = `buffers of ${name}, ${cached ? '' : 'not '}cached`;
      if (mapping === 'device') {
        it(`maps ${kind}, for its device`, async () => {
          await leavesNoPage(async () => {
            using heap = openHeap('ion', { heap: name });
            using first = heap.allocSync(FRAME, { cached });
            using second = heap.allocSync(FRAME, { cached });
            const mapped = () => readFileSync(debugfs('ion/buffers'), 'utf8').match(/^ +vivid\.0 +mapped$/gm)?.length;
            await whileImported(capture, [vividCamera(), '2', 'queue'], [first, second], () => {
              assert.equal(mapped(), 2);
            });
            await eventually(() => assert.equal(mapped(), undefined));
          });
        });
      } else if (warnsOfRefusal)
        it(`is refused ${kind}: dma_buf_vmap() of this kernel warns of that as if it was a bug`);
      else {
        it(`is refused ${kind}, which it would map for the CPU`, async () => {
          await leavesNoPage(() => {
            using heap = openHeap('ion', { heap: name });
            using buffer = heap.allocSync(FRAME, { cached });
            assert.throws(() => run(capture, [vividCamera(), '1', 'queue'], [buffer.fd]), /VIDIOC_QBUF: Bad address/);
          });
        });
      }
    }

    it('refuses a buffer smaller than its frame', async () => {
      await leavesNoPage(() => {
        using heap = openHeap('ion');
        using small = heap.allocSync(FRAME - PAGE);
        assert.throws(() => run(capture, [vividCamera(), '1'], [small.fd]), /VIDIOC_QBUF/);
      });
    });

    it('keeps the module of its buffers loaded', async () => {
      using heap = openHeap('ion', { contiguous: true });
      // that of 5.10 begins with two buffers, not with one
      using first = heap.allocSync(FRAME);
      using second = heap.allocSync(FRAME);
      run(capture, [vividCamera(), '2'], [first.fd, second.fd]);
      staysLoaded('ion_lite');
    });
  });
}
