// SPDX-License-Identifier: MIT
/** A camera that maps buffers for a device, as most on a board do, and so wants each in one piece: vivid's `allocators=1`. */
import assert from 'node:assert/strict';
import { openHeap } from 'dmabuf';
import { everyHeapTable } from './ion.ts';
import { allocate, called, memories } from './memories.ts';
import { describeModules, largestBlock, leavesNoPage, suiteWithParameters } from './support.ts';
import { assertNear, checkRgbBars, HEIGHT, openCamera, take, WIDTH, withVivid } from './v4l2.ts';

describeModules('a camera that wants contiguous memory', () => {
  suiteWithParameters('ion', everyHeapTable);
  withVivid(['single', 'multi'], 'allocators=1,1');
  const fit = memories.filter((memory) => !memory.protected);

  for (const memory of fit.filter(({ contiguous }) => contiguous)) {
    it(`captures frames into buffers of ${called(memory)}, of one plane or of two`, async () => {
      await leavesNoPage(async () => {
        const buffersFor = (sizes: readonly { size: number }[]) =>
          [0, 1].map(() => sizes.map(({ size }) => allocate(memory, size)));
        for (const [number, pixelFormat] of [
          [0, 'RGB3'],
          [1, 'NM16'],
        ] as const) {
          using camera = openCamera(number, pixelFormat);
          const buffers = buffersFor(camera.format.planes);
          await take(camera.frames({ buffers }), 3, (frame) => {
            if (pixelFormat === 'RGB3') checkRgbBars(frame);
            else frame.read((luma) => assertNear([luma[4], luma[WIDTH - 4]], [235, 16], 'luma'));
          });
          for (const buffer of buffers.flat()) buffer.close();
        }
      });
    });
  }

  for (const memory of fit.filter(({ contiguous, cached }) => !contiguous && cached)) {
    it(`is refused buffers of ${memory.name}, and goes on with others`, async () => {
      await leavesNoPage(async () => {
        using camera = openCamera();
        // No block of the page allocator is as large as its frame.
        const { planes } = camera.setFormat({ width: 3840, height: 2160, pixelFormat: 'RGB3' });
        assert((planes[0]?.size as number) > largestBlock());
        using heap = openHeap(memory.kind, { heap: memory.name });
        const why = new RegExp(
          `It comes from ${memory.name}, whose memory is in pieces: .*one piece.*contiguous: true`,
        );
        const refused = { code: 'EFAULT', syscall: 'ioctl', path: camera.path, message: why };
        await assert.rejects(camera.frames({ count: 2, heap }).next(), refused);
        camera.setFormat({ width: WIDTH, height: HEIGHT, pixelFormat: 'RGB3' });
        using contiguous = openHeap('ion', { contiguous: true });
        await take(camera.frames({ count: 2, heap: contiguous }), 1, checkRgbBars);
      });
    });
  }
});
