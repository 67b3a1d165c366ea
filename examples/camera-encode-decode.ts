// SPDX-License-Identifier: MIT
/**
 * From a camera through an encoder and a decoder, each of which reads the buffers that the one before has written, and
 * compared with what the camera saw.
 *
 *     scripts/guest --kernel lab -- node examples/camera-encode-decode.ts
 *
 * The codec is FWHT, of vicodec: a driver of the kernel that encodes and decodes by the CPU.
 *
 * @module
 */
import { heaps, openHeap } from 'dmabuf';
import { type Frame, pipelineReport } from 'dmabuf/v4l2';
import { openCodecs } from './camera/codec.ts';
import { openCamera, runExample } from './camera/open.ts';

const FRAMES = 10;

/** Decibels that FWHT keeps of a test pattern, and of most else. */
const LEAST_PSNR = 30;

/** What a picture has lost: the sum of the differences, and of their squares. */
function compare(found: Frame, source: Frame): { sum: number; squares: number; count: number } {
  return source.read((expected) =>
    found.read((bytes) => {
      let [sum, squares] = [0, 0];
      for (let at = 0; at < expected.length; at++) {
        const difference = Math.abs((bytes[at] as number) - (expected[at] as number));
        sum += difference;
        squares += difference * difference;
      }
      return { sum, squares, count: expected.length };
    }),
  );
}

await runExample('camera-encode-decode', async () => {
  using camera = openCamera();
  const codecs = openCodecs();
  using encoder = codecs.encoder;
  using decoder = codecs.decoder;
  const { width, height } = camera.setFormat({ width: 640, height: 360, pixelFormat: 'RGB3', field: 'none' });
  encoder.input.setFormat({ width, height });
  decoder.input.setFormat(encoder.output.format);
  decoder.output.setFormat({ pixelFormat: 'RGB3' });

  const ours = heaps().some(({ kind, error }) => kind === 'ion' && error === undefined);
  using heap = ours ? openHeap('ion', { contiguous: true }) : undefined;
  const memory = heap && { heap };
  /** What was encoded, until it was decoded: its timestamp goes all the way. */
  const sources = new Map<bigint, Frame>();
  const captured = camera.frames({ count: 6, ...memory });
  async function* seen() {
    let count = 0;
    for await (const frame of captured) {
      sources.set(frame.timestamp, frame);
      yield { buffers: frame.buffers, timestamp: frame.timestamp };
      if (++count === FRAMES) return;
    }
  }
  let size = 0;
  const encoding = encoder.process(seen(), { ...memory });
  async function* weighed() {
    for await (const frame of encoding) {
      size += frame.planes[0]?.bytesUsed ?? 0;
      yield frame;
    }
  }
  const decoding = decoder.process(weighed(), { ...memory });
  const total = { frames: 0, sum: 0, squares: 0, count: 0 };
  for await (using frame of decoding) {
    using source = sources.get(frame.timestamp);
    if (source === undefined) throw new Error(`No frame was encoded at ${frame.timestamp}`);
    const { sum, squares, count } = compare(frame, source);
    total.frames++;
    total.sum += sum;
    total.squares += squares;
    total.count += count;
  }

  const mean = total.sum / total.count;
  const psnr = 10 * Math.log10(255 ** 2 / (total.squares / total.count));
  const percent = ((100 * size) / total.count).toFixed(1);
  console.log(
    `${total.frames} frames of ${width}x${height} RGB3 became ${size} bytes of FWHT, ${percent} %, and frames`,
  );
  console.log(
    `mean difference ${mean.toFixed(2)} of 255, PSNR ${psnr.toFixed(1)} dB, at least ${LEAST_PSNR} are wanted`,
  );
  const report = pipelineReport(captured, encoding, decoding);
  for (const [index, { device, driver, given, gave, handedOn }] of report.stages.entries()) {
    const from = index === 0 ? 'fills' : `given ${given.join(' ')} (handed on: ${handedOn}), gave`;
    console.log(`${device}, ${driver}: ${from} buffers ${gave.join(' ')}`);
  }
  console.log(`copies by the library: ${report.copies}`);
  if (!(psnr >= LEAST_PSNR) || total.frames !== FRAMES) process.exitCode = 1;
});
