// SPDX-License-Identifier: MIT
/** Many frames of one camera, in real time: DMABUF_FRAMES says how many, the full run has 20000. */
import assert from 'node:assert/strict';
import { openHeap } from 'dmabuf';
import type { Capture, Fraction } from 'dmabuf/v4l2';
import { collect } from '../support.ts';
import { allCounters, describeModules, fdsOf, idleCounters } from './support.ts';
import { HEIGHT, openCamera, WIDTH, withVivid } from './v4l2.ts';

const { DMABUF_FRAMES = '600', DMABUF_ROUNDS = '1000000' } = process.env;
const frames = Math.min(Number(DMABUF_FRAMES), Number(DMABUF_ROUNDS));

/** Bytes that may come: one page for each frame would be 80 MB, and one pointer is what the heap grows by anyway. */
const TOLERATED = 12 << 20;

/** What has the most frames per second. */
function fastest(camera: Capture): Fraction {
  const seconds = ({ numerator, denominator }: Fraction) => numerator / denominator;
  const [first] = camera
    .intervals('GREY', WIDTH, HEIGHT)
    .map(({ min }) => min)
    .sort((one, other) => seconds(one) - seconds(other));
  assert(first);
  return first;
}

describeModules(`${frames.toLocaleString('en')} frames of a camera`, () => {
  withVivid(['single']);

  it('take no more memory and no more descriptors at their end than at their beginning', async function () {
    // one frame in three tenths of a second, where many are emulated at a time
    this.timeout(Math.max(this.timeout(), frames * 300));
    {
      using camera = openCamera(0, 'GREY');
      camera.setInterval(fastest(camera));
      using heap = openHeap('ion');
      const stream = camera.frames({ count: 4, heap });
      const samples: { fds: number; rss: number }[] = [];
      const every = Math.ceil(frames / 10);
      const begin = process.hrtime.bigint();
      for await (using frame of stream) {
        assert(frame.planes[0]?.bytesUsed === WIDTH * HEIGHT);
        if (stream.frames % every !== 0 && stream.frames !== frames) continue;
        await collect();
        samples.push({ fds: fdsOf(process.pid), rss: process.memoryUsage.rss() });
        if (stream.frames >= frames) break;
      }
      const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
      assert(this.test);
      this.test.title += ` (${seconds.toFixed(1)} s, ${stream.dropped} dropped)`;
      const said = JSON.stringify(samples);
      const [first, ...others] = samples;
      assert(first && others.length >= 5);
      for (const { fds, rss } of others) {
        assert.equal(fds, first.fds, said);
        assert(rss - first.rss < TOLERATED, said);
      }
    }
    assert.deepEqual(allCounters(), idleCounters);
  });
});
