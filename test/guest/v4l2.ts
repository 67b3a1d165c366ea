// SPDX-License-Identifier: MIT
/** Cameras that are vivid's, for the time of a suite. */
import assert from 'node:assert/strict';
import { Capture, type Frame, type FrameStream, Output, videoDevices } from 'dmabuf/v4l2';
import { suiteWithDriver } from './drivers.ts';

/** Frames of the tests: small, for it is an emulated CPU that fills them. */
export const [WIDTH, HEIGHT] = [320, 180];

/** Loads vivid for the tests of a suite: one device for each word, single-planar or multi-planar. */
export function withVivid(devices: readonly ('single' | 'multi')[], ...parameters: string[]): void {
  const each = (value: string) => devices.map(() => value).join(',');
  suiteWithDriver('vivid', [
    `n_devs=${devices.length}`,
    `multiplanar=${devices.map((planes) => (planes === 'multi' ? 2 : 1)).join(',')}`,
    // video capture and output; a webcam and HDMI, and HDMI to go out by
    ...[`node_types=${each('0x101')}`, `num_inputs=${each('2')}`, `input_types=${each('0xc')}`],
    ...[`num_outputs=${each('1')}`, `output_types=${each('1')}`],
    ...parameters,
  ]);
}

/** vivid's devices by their number: what frames come from, in a small format and without the text that changes. */
export function openCamera(number = 0, pixelFormat = 'RGB3'): Capture {
  const camera = Capture.open({ label: `vivid-00${number}-vid-cap` });
  camera.setInput(0);
  // vivid keeps what another test has set.
  camera.setControls({ osd_text_mode: 'None', test_pattern: '100% Colorbar', brightness: 128, contrast: 128 });
  const { width, height } = camera.setFormat({ width: WIDTH, height: HEIGHT, pixelFormat, field: 'none' });
  assert.deepEqual([width, height], [WIDTH, HEIGHT]);
  return camera;
}

/** The same of what frames go to. */
export function openOutput(number = 0): Output {
  return Output.open({ label: `vivid-00${number}-vid-out` });
}

/** So many frames of a stream, each handed to `look` and given back; what that answered. */
export async function take<T>(stream: FrameStream, count: number, look: (frame: Frame) => T): Promise<T[]> {
  const seen: T[] = [];
  for await (using frame of stream) {
    seen.push(look(frame));
    if (seen.length === count) break;
  }
  return seen;
}

/** Red, green and blue of white, yellow, cyan, green, magenta, red, blue and black: bars from left to right. */
export const BARS = [
  [255, 255, 255],
  [255, 255, 0],
  [0, 255, 255],
  [0, 255, 0],
  [255, 0, 255],
  [255, 0, 0],
  [0, 0, 255],
  [0, 0, 0],
] as const;

/** Conversions of colours round. */
export function assertNear(found: readonly (number | undefined)[], expected: readonly number[], what: string): void {
  const near = expected.every((value, i) => Math.abs((found[i] ?? Number.NaN) - value) <= 4);
  assert(near && found.length === expected.length, `${what}: ${found}, not ${expected}`);
}

/** Checks the bars in a picture: `colour` answers red, green and blue of a pixel. */
export function checkBars(colour: (x: number, y: number) => number[]): void {
  for (const y of [0, HEIGHT / 2, HEIGHT - 1]) {
    for (const [bar, expected] of BARS.entries()) {
      const found = colour(bar * (WIDTH / BARS.length) + WIDTH / BARS.length / 2, y);
      assertNear(found, expected, `bar ${bar} at row ${y}`);
    }
  }
}

/** The same of a frame of RGB3. */
export function checkRgbBars(frame: Frame): void {
  const stride = frame.planes[0]?.stride as number;
  frame.read((bytes) => checkBars((x, y) => [...bytes.subarray(y * stride + x * 3, y * stride + x * 3 + 3)]));
}

/** The node of vivid's device of that name. */
export function nodeOf(label: string): string {
  const found = videoDevices().find((device) => device.label.startsWith(label));
  assert(found, `vivid has no ${label}`);
  return found.path;
}

/** The same device's HDMI socket, for a cable from an output. */
export function openSocket(number: number): Capture {
  const camera = Capture.open({ label: `vivid-00${number}-vid-cap` });
  camera.setInput(1);
  camera.setFormat({ width: WIDTH, height: HEIGHT, pixelFormat: 'RGB3', field: 'none' });
  // What it shows without the cable is nothing that the tests send.
  camera.setControls({ osd_text_mode: 'None', test_pattern: '100% Black' });
  return camera;
}

/** Ends that: what the camera shows is its own again. */
export function unplug(camera: Capture): void {
  if (camera.controls().some(({ key }) => key === 'loop_video')) camera.setControls({ loop_video: false });
  camera.setInput(0);
}

/** The next warning of this code: others may come from what earlier tests have left. */
export function warningOf(code: string): Promise<Error> {
  return new Promise((resolve) => {
    const seen = (warning: NodeJS.ErrnoException) => {
      if (warning.code !== code) return;
      process.off('warning', seen);
      resolve(warning);
    };
    process.on('warning', seen);
  });
}
