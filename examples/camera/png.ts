// SPDX-License-Identifier: MIT
/** Frames as PNG files. */
import { writeFileSync } from 'node:fs';
import type { Capture, Format, Frame } from 'dmabuf/v4l2';
import { PNG } from 'pngjs';
import { NoCamera } from './open.ts';

/** Puts red, green and blue of each pixel of a row where they belong, and 255 behind them. */
type Unpack = (row: Uint8Array, into: Uint8Array, width: number) => void;

const bytes = (red: number, blue: number): Unpack => {
  return (row, into, width) => {
    for (let x = 0; x < width; x++) {
      into[4 * x] = row[3 * x + red] as number;
      into[4 * x + 1] = row[3 * x + 1] as number;
      into[4 * x + 2] = row[3 * x + blue] as number;
      into[4 * x + 3] = 255;
    }
  };
};

const clamp = (value: number) => Math.max(0, Math.min(255, Math.round(value)));

/** Two pixels share their colour: Y, Cb, Y, Cr of Rec. 601 in its limited range. */
const yuyv: Unpack = (row, into, width) => {
  for (let x = 0; x < width; x++) {
    const pair = (x >> 1) * 4;
    const luma = 1.164 * ((row[2 * x] as number) - 16);
    const [cb, cr] = [(row[pair + 1] as number) - 128, (row[pair + 3] as number) - 128];
    into[4 * x] = clamp(luma + 1.596 * cr);
    into[4 * x + 1] = clamp(luma - 0.392 * cb - 0.813 * cr);
    into[4 * x + 2] = clamp(luma + 2.017 * cb);
    into[4 * x + 3] = 255;
  }
};

/** What can be unpacked, the best first. */
const unpackers: ReadonlyMap<string, Unpack> = new Map([
  ['RGB3', bytes(0, 2)],
  ['BGR3', bytes(2, 0)],
  ['YUYV', yuyv],
]);

/** Sets a camera to a format that {@link writePng} knows. */
export function setPngFormat(camera: Capture, width: number, height: number): Format {
  const there = camera.formats().map(({ pixelFormat }) => pixelFormat);
  const pixelFormat = [...unpackers.keys()].find((name) => there.includes(name));
  if (pixelFormat !== undefined) return camera.setFormat({ pixelFormat, width, height });
  throw new NoCamera(
    `${camera.path} has only ${there.join(', ')}: this example knows ${[...unpackers.keys()].join(', ')}`,
  );
}

/** Writes a frame to a file, row for row out of the buffer that the driver filled. */
export function writePng(frame: Frame, path: string): void {
  const { pixelFormat, width, height } = frame.format;
  const unpack = unpackers.get(pixelFormat) as Unpack;
  const stride = frame.planes[0]?.stride as number;
  const image = new PNG({ width, height });
  frame.read((picture) => {
    for (let y = 0; y < height; y++) {
      unpack(picture.subarray(y * stride), image.data.subarray(y * width * 4), width);
    }
  });
  writeFileSync(path, PNG.sync.write(image, { deflateLevel: 3, filterType: 1 }));
}
