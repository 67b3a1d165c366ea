// SPDX-License-Identifier: MIT
/**
 * The loop over frames, for longer than an emulated camera has time for. What the frames come from is no device: a list
 * of memfds, in the place of a driver's queue. DMABUF_ROUNDS says how many, each for fifty.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openHeap } from '../../lib/index.ts';
import type { VideoDevice } from '../../lib/v4l2/device.ts';
import { type Format, Port } from '../../lib/v4l2/formats.ts';
import type { AllocateOptions, Done, FrameQueue, Slot } from '../../lib/v4l2/queue.ts';
import { Stage } from '../../lib/v4l2/report.ts';
import { startFrames } from '../../lib/v4l2/stream.ts';
import { collect, leavesNothing, PAGE } from '../support.ts';

const { DMABUF_ROUNDS = '20000' } = process.env;
const FRAMES = Number(DMABUF_ROUNDS) * 50;

/** After so many there is none for a moment, and the loop has to wait. */
const RUN = 8;

const path = 'a source of memfds';

/** In each frame stands its number. */
class MemfdQueue implements FrameQueue {
  slots: readonly Slot[] = [];
  format: Format | undefined;
  streaming = false;
  readonly stage = new Stage(path, 'memfd');
  readonly port = new Port(() => assert.fail('it has no device'), 1, path);
  readonly #filled: Slot[] = [];
  #sequence = 0;

  get queued(): number {
    return this.#filled.length;
  }

  async allocate({ count }: AllocateOptions): Promise<void> {
    using heap = openHeap('memfd');
    const buffers = await Promise.all(Array.from({ length: count }, () => heap.alloc(PAGE)));
    this.slots = buffers.map((buffer, index): Slot => ({ index, buffers: [buffer], holder: 'idle' }));
    this.format = {
      ...{ width: PAGE / 4, height: 1, pixelFormat: 'memf', field: 'none', colorspace: 'raw' },
      ...{ ycbcrEncoding: 'default', quantization: 'default', transferFunction: 'default' },
      planes: [{ stride: PAGE, size: PAGE }],
    };
  }

  adopt(): void {
    assert.fail('it brings its own');
  }

  enqueue(slot: Slot): void {
    assert.notEqual(slot.holder, 'driver');
    slot.holder = 'driver';
    this.#filled.push(slot);
  }

  dequeue(): Done | undefined {
    const sequence = this.#sequence++;
    if (sequence % (RUN + 1) === RUN) return undefined;
    const slot = this.#filled.shift();
    assert(slot, 'its buffers did not come back');
    slot.holder = 'program';
    return { slot, flags: 0, field: 1, sequence, timestamp: sequence, planes: [{ bytesUsed: PAGE, dataOffset: 0 }] };
  }

  start(): void {
    this.streaming = true;
  }

  release(): void {
    for (const slot of this.slots) if (slot.holder !== 'program') this.drop(slot);
    this.slots = [];
    this.#filled.length = 0;
    this.format = undefined;
  }

  drop({ buffers }: Slot): void {
    for (const buffer of buffers) buffer.close();
  }
}

/** As much of a device as a loop over frames asks for. */
const source = { path, readiness: { wait: () => nextTurn(), wake: () => {}, rest: () => {} } };

describe('a loop over frames', () => {
  it(`of ${FRAMES.toLocaleString('en')} from a source of memfds holds no more at its end than at its beginning`, async function () {
    this.timeout(600_000);
    this.slow(60_000);
    await leavesNothing(async () => {
      const options = { count: 4, heap: undefined, buffers: undefined, latest: false, signal: undefined };
      const stream = startFrames(source as unknown as VideoDevice, new MemfdQueue(), options);
      const measure = async () => {
        await collect();
        const { heapUsed, rss } = process.memoryUsage();
        return { fds: readdirSync('/proc/self/fd').length, heapUsed, rss };
      };
      let begin: Awaited<ReturnType<typeof measure>> | undefined;
      let gaps = 0;
      for await (using frame of stream) {
        if (frame.sequence % (RUN + 1) === 0) gaps++;
        // Until then V8 of Node.js 24 makes room for what is young, 80 MiB of it.
        if (stream.frames === FRAMES / 2) begin = await measure();
        if (stream.frames === FRAMES) break;
      }
      assert(begin);
      const end = await measure();
      assert.equal(stream.frames, FRAMES);
      assert.equal(gaps, Math.ceil(FRAMES / RUN));
      // The loop was left, and with it its four buffers.
      assert.equal(end.fds, begin.fds - 4);
      // One pointer for each frame would be more.
      const grown = end.heapUsed - begin.heapUsed;
      assert(grown < 2 << 20, `${grown} bytes more on the heap`);
      assert(end.rss - begin.rss < 32 << 20, `${end.rss - begin.rss} bytes more in memory`);
    });
  });
});
