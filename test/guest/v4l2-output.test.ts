// SPDX-License-Identifier: MIT
/** Frames that are shown, and come back by a cable: vivid's HDMI. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { openHeap } from 'dmabuf';
import { type Frame, type FrameSink, Output, pipelineReport } from 'dmabuf/v4l2';
import { Cable } from '../../examples/camera/cable.ts';
import { describeModules, leavesNoPage } from './support.ts';
import { checkRgbBars, HEIGHT, openCamera, openOutput, openSocket, take, unplug, WIDTH, withVivid } from './v4l2.ts';

const STRIDE = WIDTH * 3;
const format = { width: WIDTH, height: HEIGHT, pixelFormat: 'RGB3' } as const;

/** A picture that no test pattern has: where a pixel is, it says. */
function draw(bytes: Uint8Array): void {
  for (let y = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x++) bytes.set([x & 0xff, y, 0x5a], y * STRIDE + x * 3);
  }
}

const isDrawn = (bytes: Uint8Array) =>
  [
    [3, 5],
    [100, 90],
    [250, 170],
  ].every(([x = 0, y = 0]) => {
    const at = y * STRIDE + x * 3;
    // the cable may scale, and rounds
    return Math.abs((bytes[at] as number) - x) <= 2 && Math.abs((bytes[at + 1] as number) - y) <= 2;
  });

/** Frames that a camera may take until what is shown has come to it. */
const PATIENCE = 400;

/**
 * What process accounting has seen of this process: bytes that went through read and write. Stock kernels have it
 * (TASK_IO_ACCOUNTING); on others there is nothing to count.
 */
function bytesByCalls(): number {
  if (!existsSync('/proc/self/io')) return 0;
  const text = readFileSync('/proc/self/io', 'utf8');
  return [...text.matchAll(/^[rw]char: (\d+)$/gm)].reduce((sum, [, bytes]) => sum + Number(bytes), 0);
}

for (const planes of ['single', 'multi'] as const) {
  describeModules(`an output with ${planes === 'single' ? 'one plane' : 'planes'}`, () => {
    withVivid([planes]);

    for (const heapName of [undefined, 'ion_system_heap', 'ion_dma_heap']) {
      it(`shows frames that were drawn in ${heapName ?? 'its own memory'}, as its cable tells`, async () => {
        await leavesNoPage(async () => {
          using output = openOutput();
          output.setFormat(format);
          using heap = heapName === undefined ? undefined : openHeap('ion', { heap: heapName });
          using sink = output.sink({ count: 3, ...(heap && { heap }) });
          for (let frame = 0; frame < 3; frame++) {
            using canvas = await sink.acquire();
            canvas.write(draw);
            canvas.show();
            assert.throws(() => canvas.show(), { code: 'ERR_DMABUF_CLOSED', message: /was shown or closed/ });
            assert.throws(() => canvas.buffers, { code: 'ERR_DMABUF_CLOSED' });
          }
          using back = openSocket(0);
          const cable = new Cable(back, 'HDMI 000-0');
          let seen = false;
          const frames = back.frames({ count: 2 });
          for await (using frame of frames) {
            cable.plug();
            seen = frame.read(isDrawn);
            if (seen || frames.frames > PATIENCE) break;
          }
          unplug(back);
          assert(seen, 'the picture did not come back');
          // One that was not shown is there again.
          (await sink.acquire()).close();
          await sink.finish();
          assert(sink.queued <= 1);
        });
      });
    }

    it('refuses what is no frame of its format, and says what differs', async () => {
      using camera = openCamera();
      using output = openOutput();
      output.setFormat({ ...format, pixelFormat: 'YUYV' });
      const stream = camera.frames({ count: 3 });
      await assert.rejects(output.play(stream), {
        code: 'EINVAL',
        message: /Its pixelFormat is YUYV, and that of the frame RGB3: setFormat\(\)/,
      });
      assert.equal(stream.closed, true);
      output.setFormat(format);
      const [plane] = camera.setFormat({ planes: [{ stride: STRIDE + 64 }] }).planes;
      assert(plane && plane.stride > STRIDE);
      await assert.rejects(output.play(camera.frames({ count: 3 })), {
        ...{ code: 'EINVAL', path: output.path },
        message: new RegExp(`Rows of its plane 0 are ${STRIDE} bytes apart, and those of the frame ${plane.stride}: `),
      });
      await assert.rejects(output.play(1 as never), { code: 'ERR_INVALID_ARG_TYPE' });
      await assert.rejects(output.play(camera.frames(), { started: 5 as never }), {
        ...{ code: 'ERR_INVALID_ARG_TYPE', path: output.path },
        message: /"started"/,
      });
    });

    it('takes a frame once at a time', async () => {
      await leavesNoPage(async () => {
        using camera = openCamera();
        using output = openOutput();
        output.setFormat(format);
        using stream = camera.frames({ count: 3 });
        const { value: frame } = await stream.next();
        assert(frame);
        const twice = async function* () {
          yield frame;
          yield frame;
        };
        await assert.rejects(output.play(twice()), {
          code: 'EBUSY',
          path: output.path,
          message: /driver has this frame already/,
        });
        assert.equal(frame.closed, true);
        await assert.rejects(output.play(twice()), { code: 'ERR_DMABUF_CLOSED' });
        (await stream.next()).value?.close();
      });
    });

    it('says which frames it could not show as they were', async () => {
      using output = openOutput();
      output.setFormat(format);
      using sink = output.sink({ count: 2 });
      const show = async (count: number) => {
        for (let frame = 0; frame < count; frame++) (await sink.acquire()).show();
      };
      await show(3);
      assert.equal(sink.damaged, 0);
      // of one frame
      output.setControls({ inject_v4l2_buf_flag_error: true });
      await show(4);
      assert.equal(sink.damaged, 1);
    });

    it('says how many frames it keeps, and counts none of them as shown but the first', async () => {
      await leavesNoPage(async () => {
        using camera = openCamera();
        using output = openOutput();
        output.setFormat(format);
        using source = camera.frames({ count: 4 });
        const frames = async () => {
          const taken: Frame[] = [];
          while (taken.length < 3) taken.push((await source.next()).value as Frame);
          return (async function* () {
            yield* taken;
          })();
        };
        assert.equal(await output.play(await frames(), { count: 3 }), 3);
        const others = await frames();
        // It takes them, and shows none.
        output.setControls({ percentage_of_dropped_buffers: 100 });
        try {
          assert.equal(await output.play(others, { count: 3 }), 1);
          using sink = output.sink({ count: 3 });
          for (let i = 0; i < 3; i++) (await sink.acquire()).show();
          assert.deepEqual([await sink.finish(), sink.shown, sink.queued], [3, 0, 3]);
        } finally {
          output.setControls({ percentage_of_dropped_buffers: 0 });
        }
      });
    });

    it('is one sink at a time, and says when it was closed', async () => {
      await leavesNoPage(async () => {
        using output = openOutput();
        output.setFormat(format);
        const sink = output.sink({ count: 2 });
        const [canvas, other] = await Promise.all([sink.acquire(), sink.acquire()]);
        assert.notEqual(canvas.buffers[0]?.inode, other.buffers[0]?.inode);
        assert.throws(() => output.sink(), { code: 'EBUSY', message: /Frames go to it already/ });
        sink.close();
        assert.throws(() => canvas.show(), { code: 'ERR_DMABUF_CLOSED', message: /have ended: sink\(\) begins anew/ });
        await assert.rejects(sink.acquire(), { code: 'ERR_DMABUF_CLOSED' });
        other.close();
        const again = output.sink({ count: 2 });
        (await again.acquire()).show();
        output.close();
        await assert.rejects(again.acquire(), { code: 'ERR_DMABUF_CLOSED' });
        assert.throws(() => Output.open({ name: 'nothing' }), { code: 'ENODEV' });
      });
    });
  });
}

describeModules('a camera, an output and its cable', () => {
  withVivid(['single', 'single']);

  for (const heapName of ['ion_system_heap', 'ion_dma_heap']) {
    it(`pass the same buffers of ${heapName} on, and nothing copies them`, async () => {
      await leavesNoPage(async () => {
        using heap = openHeap('ion', { heap: heapName });
        using camera = openCamera(0);
        using output = openOutput(1);
        using back = openSocket(1);
        const cable = new Cable(back, 'HDMI 001-0');
        output.setFormat(format);
        const source = camera.frames({ count: 6, heap });
        let sink: FrameSink | undefined;
        const before = bytesByCalls();
        const played = output.play(source, { count: 3, started: (made) => (sink = made) });
        const looped = back.frames({ count: 3, heap });
        let arrived = false;
        for await (using frame of looped) {
          cable.plug();
          try {
            checkRgbBars(frame);
            arrived = true;
          } catch (error) {
            if (looped.frames > PATIENCE) throw error;
            continue;
          }
          if (sink !== undefined && sink.shown >= 4) break;
        }
        const calls = bytesByCalls() - before;
        source.close();
        const shown = await played;
        unplug(back);
        assert(arrived && sink !== undefined);
        const { stages, copies, copiedBytes } = pipelineReport(source, sink);
        assert.deepEqual([copies, copiedBytes], [0, 0]);
        const [from, to] = stages;
        assert(from && to && shown >= 4 && to.frames >= 4);
        assert.equal(from.given.length, 6);
        assert(to.given.length > 1 && to.given.every((inode) => from.gave.includes(inode)));
        assert.deepEqual([from.handedOn, to.handedOn, from.driverCopies, to.driver], [true, true, true, 'vivid']);
        const frames = (from.frames + looped.frames) * STRIDE * HEIGHT;
        assert(calls < STRIDE * HEIGHT, `${calls} bytes went by read and write, where frames had ${frames}`);
      });
    });
  }

  it('count a copy where the program lets the library make one', async () => {
    using camera = openCamera(0);
    const stream = camera.frames({ count: 2 });
    const [bytes] = await take(stream, 1, (frame) => frame.buffers[0]?.copy().byteLength);
    assert.equal(bytes, STRIDE * HEIGHT);
    assert.deepEqual([pipelineReport(stream).copies, pipelineReport(stream).copiedBytes], [1, bytes]);
  });
});
