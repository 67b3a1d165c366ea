// SPDX-License-Identifier: MIT
/**
 * One frame of a camera as a PNG.
 *
 *     scripts/guest --share out -- node examples/camera-to-png.ts /share/camera.png
 *
 * Where a machine has no camera, root gets vivid's: a driver of the kernel that makes frames of a test pattern.
 *
 * @module
 */
import { heaps, openHeap } from 'dmabuf';
import { openCamera, runExample } from './camera/open.ts';
import { setPngFormat, writePng } from './camera/png.ts';

await runExample('camera-to-png', async () => {
  const [, , path = 'camera.png'] = process.argv;
  using camera = openCamera();
  const { width, height, pixelFormat } = setPngFormat(camera, 640, 360);
  // The camera writes into memory of ours; where there is none, into its own.
  const ours = heaps().some(({ kind, error }) => kind === 'ion' && error === undefined);
  using heap = ours ? openHeap('ion', { contiguous: true }) : undefined;
  for await (using frame of camera.frames({ count: 3, ...(heap && { heap }) })) {
    writePng(frame, path);
    const { buffer } = frame.planes[0] ?? {};
    console.log(`${path}: frame ${frame.sequence} of ${camera.name}, ${width}x${height} ${pixelFormat}`);
    console.log(`  in ${buffer?.name}, ${buffer?.size} bytes of ${heap?.name ?? buffer?.exporterName}`);
    break;
  }
});
