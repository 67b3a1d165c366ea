// SPDX-License-Identifier: MIT
/** Dma-bufs in drivers of the kernel: vgem (maps them for a device, up to 6.12) and vivid (writes into them). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { heaps, openHeap } from 'dmabuf';
import { vgemCard, vividCamera, vividWith, withDriver } from './drivers.ts';
import { describeModules, leavesNoPage, PAGE, staysLoaded } from './support.ts';

const heapsToTry = heaps()
  .filter(({ dma, protected: secured }) => dma && !secured)
  .flatMap((info) => (info.uncached ? [true, false] : [true]).map((cached) => ({ ...info, cached })));

/** Runs a program with buffers as its descriptors 3 and up: the numbers in its last line. */
function run(path: string, args: readonly string[], fds: readonly number[]): number[] {
  const said = execFileSync(path, args, { stdio: ['ignore', 'pipe', 'pipe', ...fds], encoding: 'utf8' });
  return (said.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
}

describeModules('vgem', () => {
  const importer = withDriver('vgem', [], 'vgem-import');

  for (const { kind, name, cached } of heapsToTry) {
    it(`takes a buffer of ${name}, ${cached ? '' : 'not '}cached, and makes whoever polls it wait`, async () => {
      await leavesNoPage(() => {
        using heap = openHeap(kind, { heap: name });
        using buffer = heap.allocSync(7 * PAGE, { cached });
        assert.deepEqual(run(importer, [vgemCard()], [buffer.fd]), [7 * PAGE, buffer.inode]);
        buffer.read((bytes) => assert(bytes.every((byte, i) => byte === ((i * 31) & 0xff))));
      });
    });
  }
});

for (const mapping of ['cpu', 'device'] as const) {
  describeModules(mapping === 'cpu' ? 'vivid' : 'vivid, which maps buffers for a device', () => {
    const capture = withDriver('vivid', vividWith(mapping), 'v4l2-capture');

    // White, yellow, cyan, green, magenta, red, blue, black: which of red, green and blue each has.
    const bars = [0b111, 0b110, 0b011, 0b010, 0b101, 0b100, 0b001, 0b000];

    // For a device it takes one piece.
    for (const { kind, name, cached } of heapsToTry.filter(({ contiguous }) => mapping === 'cpu' || contiguous)) {
      it(`captures a frame into a buffer of ${name}, ${cached ? '' : 'not '}cached`, async () => {
        await leavesNoPage(() => {
          using heap = openHeap(kind, { heap: name });
          const length = 320 * 180 * 3;
          using first = heap.allocSync(length, { cached });
          using second = heap.allocSync(length, { cached });
          const [width, height, stride, used, index] = run(capture, [vividCamera(), '2'], [first.fd, second.fd]);
          assert.deepEqual([width, height, stride, used], [320, 180, 960, length]);
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

    it('refuses a buffer smaller than its frame', async () => {
      await leavesNoPage(() => {
        using heap = openHeap('ion');
        using small = heap.allocSync(320 * 180 * 3 - PAGE);
        assert.throws(() => run(capture, [vividCamera(), '1'], [small.fd]), /VIDIOC_QBUF/);
      });
    });

    it('keeps the module of its buffers loaded', async () => {
      using heap = openHeap('ion', { contiguous: true });
      // that of 5.10 begins with two buffers, not with one
      using first = heap.allocSync(320 * 180 * 3);
      using second = heap.allocSync(320 * 180 * 3);
      run(capture, [vividCamera(), '2'], [first.fd, second.fd]);
      staysLoaded('ion_lite');
    });
  });
}
