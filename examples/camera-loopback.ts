// SPDX-License-Identifier: MIT
/**
 * From a camera to an output and back by its cable, without a copy: the buffers the camera fills are those that the
 * output shows.
 *
 *     scripts/guest --share out -- node examples/camera-loopback.ts /share/loopback.png
 *
 * vivid, the driver of the kernel this is for, has such a cable: the second of its devices captures by HDMI what its
 * output sends.
 *
 * @module
 */
import { openHeap } from 'dmabuf';
import { Capture, type FrameSink, Output, pipelineReport, videoDevices } from 'dmabuf/v4l2';
import { Cable } from './camera/cable.ts';
import { NoCamera, runExample, withVivid } from './camera/open.ts';
import { writePng } from './camera/png.ts';

/** Frames of the cable after the output has shown some: those before them may be noise. */
const FRAMES = 8;
const size = { width: 320, height: 180, pixelFormat: 'RGB3', field: 'none' } as const;

await runExample('camera-loopback', async () => {
  const [, , path = 'loopback.png'] = process.argv;
  if (videoDevices().length === 0) withVivid();
  if (!videoDevices().some(({ label }) => label.startsWith('vivid-001-vid-out'))) {
    throw new NoCamera('This wants two devices of vivid, and outputs: rmmod vivid, and this loads it as it wants it');
  }
  using heap = openHeap('ion', { contiguous: true });
  using camera = Capture.open({ label: 'vivid-000-vid-cap' });
  using output = Output.open({ label: 'vivid-001-vid-out' });
  using back = Capture.open({ label: 'vivid-001-vid-cap' });
  camera.setInput(0);
  camera.setFormat(size);
  // What the other device shows without a cable is not mirrored.
  camera.setControls({ horizontal_flip: true, osd_text_mode: 'None' });
  output.setFormat(size);
  // the HDMI socket
  back.setInput(1);
  back.setFormat(size);
  back.setControls({ osd_text_mode: 'None' });
  const cable = new Cable(back, 'HDMI 001-0');

  const source = camera.frames({ count: 6, heap });
  let sink: FrameSink | undefined;
  const played = output.play(source, { count: 3, started: (made) => (sink = made) });
  let came = 0;
  for await (using frame of back.frames({ count: 3, heap })) {
    came = cable.plug() || (sink?.shown ?? 0) < FRAMES ? 0 : came + 1;
    if (came < FRAMES) continue;
    writePng(frame, path);
    break;
  }
  // and the loop that plays ends
  source.close();
  const shown = await played;
  const report = pipelineReport(source, ...(sink ? [sink] : []));
  for (const { device, driver, given, gave, handedOn, driverCopies } of report.stages) {
    const how = driverCopies ? `, by the CPU of ${driver}` : '';
    console.log(`${device}: ${given.length} buffers given, ${gave.length} back${how}; handed on: ${handedOn}`);
  }
  console.log(`${path}: frame ${came} of those that came back; ${shown} were shown`);
  console.log(`copies by the library: ${report.copies}`);
});
