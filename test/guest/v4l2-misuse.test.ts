// SPDX-License-Identifier: MIT
/** What a program may do to a camera or an output that it should not, or that nobody thinks of. */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DmaBuf, openHeap } from 'dmabuf';
import { type Control, type Frame, type FrameSink, Output } from 'dmabuf/v4l2';
import { collectUntil } from '../support.ts';
import { describeModules, leavesNoPage } from './support.ts';
import { checkRgbBars, HEIGHT, openCamera, openOutput, take, WIDTH, warningOf, withVivid } from './v4l2.ts';

const format = { width: WIDTH, height: HEIGHT, pixelFormat: 'RGB3' } as const;
const FRAME = WIDTH * HEIGHT * 3;

describeModules('a camera that is misused', () => {
  withVivid(['single', 'multi']);

  it('does nothing of its own after a loop', async () => {
    using camera = openCamera();
    await take(camera.frames({ count: 2 }), 4, checkRgbBars);
    // The loop of this thread asks the kernel what there is: nothing, for nobody wants to know.
    await sleep(100);
    assert.equal(camera.setFormat({ pixelFormat: 'YUYV' }).pixelFormat, 'YUYV');
    await take(camera.frames({ count: 2 }), 4, () => {});
    await sleep(100);
    await take(camera.frames({ count: 2 }), 1, () => {});
  });

  it('begins nothing for a signal that was aborted', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera();
      // which it would refuse
      using heap = openHeap('memfd');
      const reason = new Error('enough');
      await assert.rejects(camera.frames({ heap, signal: AbortSignal.abort(reason) }).next(), reason);
    });
  });

  it('leaves no buffer where one is refused while newer ones are looked for', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera();
      using heap = openHeap('ion');
      camera.setInterval({ numerator: 1, denominator: 25 });
      const stream = camera.frames({ count: 4, heap, latest: true });
      (await stream.next()).value?.close();
      const buffers = stream.buffers.flat();
      assert.equal(buffers.length, 4);
      // some are filled
      await sleep(500);
      camera.setControls({ inject_vidioc_qbuf_error: true });
      const loop = (async () => {
        for await (using _ of stream);
      })();
      await assert.rejects(loop, { code: 'EINVAL', syscall: 'ioctl' });
      assert.deepEqual(
        buffers.map(({ closed }) => closed),
        buffers.map(() => true),
      );
    });
  });

  it('takes no buffer twice, and nothing that is none', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera();
      using heap = openHeap('ion');
      const buffers = [0, 1].map(() => heap.allocSync(FRAME)) as [DmaBuf, DmaBuf];
      using again = buffers[0].dup();
      await assert.rejects(camera.frames({ buffers: [...buffers, again] }).next(), {
        code: 'ERR_INVALID_ARG_VALUE',
        message: /buffers\[2\]\[0\].* is the memory of buffers\[0\]\[0\], too/,
      });
      for (const wrong of [null, 7, {}]) {
        await assert.rejects(camera.frames({ buffers: [buffers[0], wrong as never] }).next(), {
          code: 'ERR_INVALID_ARG_TYPE',
          message: /"buffers\[1\]/,
        });
      }
      assert.throws(() => camera.frames({ count: 8, buffers }), {
        code: 'ERR_INVALID_ARG_VALUE',
        message: /"buffers".*leave 'count' out/,
      });
      // A plane of theirs is no frame of the next.
      const lists = buffers.map((buffer) => [buffer]);
      const stream = camera.frames({ buffers: lists });
      const { value: frame } = await stream.next();
      lists[0]?.splice(0);
      lists[1]?.splice(0);
      frame?.close();
      await take(stream, 3, checkRgbBars);
      for (const buffer of buffers) buffer.close();
    });
  });

  it('wants buffers whose contents have room for a frame', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera();
      using heap = openHeap('ion');
      // whose last page has room for more than its length
      const buffers = [0, 1].map(() => heap.allocSync(FRAME - 8));
      assert(buffers.every(({ size }) => size >= FRAME));
      await assert.rejects(camera.frames({ buffers }).next(), {
        code: 'ERR_OUT_OF_RANGE',
        message: new RegExp(`at least ${FRAME} bytes.* Received one of ${FRAME - 8} bytes`),
      });
      for (const buffer of buffers) buffer.close();
    });
  });

  it('is closed where it was left to the collector, and named', async () => {
    await leavesNoPage(async () => {
      const warned = warningOf('DMABUF_NOT_CLOSED');
      const path = (() => openCamera().path)();
      let message = '';
      void warned.then((warning) => (message = warning.message));
      await collectUntil(() => message !== '');
      assert.match(message, new RegExp(`^Capture ${path} was left to the garbage collector: call close\\(\\)`));
    });
  });

  it('says so where the program closes a buffer it has lent', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera();
      using heap = openHeap('ion');
      const buffers = [0, 1, 2].map(() => heap.allocSync(FRAME));
      const stream = camera.frames({ buffers });
      const { value } = await stream.next();
      value?.buffers[0]?.close();
      value?.close();
      await assert.rejects(stream.next(), { code: 'ERR_DMABUF_CLOSED' });
      for (const buffer of buffers) buffer.close();
    });
  });

  it('is told of planes that only the new format has', () => {
    using camera = openCamera(1);
    assert.equal(camera.format.planes.length, 1);
    const { planes } = camera.setFormat({ pixelFormat: 'NM16', planes: [{}, { stride: 2 * WIDTH }] });
    assert.deepEqual(
      planes.map(({ stride }) => stride),
      [WIDTH, 2 * WIDTH],
    );
    assert.throws(() => camera.setFormat({ planes: [{ sise: 1 } as object] }), { code: 'ERR_INVALID_ARG_VALUE' });
    assert.throws(() => camera.setFormat({ quantization: '#257' }), { code: 'ERR_OUT_OF_RANGE', message: /#255/ });
    using single = openCamera(0);
    assert.throws(() => single.setFormat({ planes: [{}, {}] }), { code: 'ERR_OUT_OF_RANGE', message: /at most 1/ });
  });

  it('takes arrays of whatever type as bytes', () => {
    using camera = openCamera();
    const arrays = camera.controls().filter(({ dimensions, readOnly }) => dimensions.length > 0 && !readOnly);
    assert(arrays.length > 0);
    for (const { key } of arrays) {
      const value = camera.getControl(key);
      assert(value instanceof Uint8Array, key);
      camera.setControls({ [key]: value });
      assert.throws(() => camera.setControls({ [key]: 1n }), { code: 'ERR_INVALID_ARG_TYPE' }, key);
    }
  });

  it('ends a wait for events with their loop, and hears of none that nobody asks for', async () => {
    using camera = openCamera();
    const { id } = camera.controls().find(({ key }) => key === 'brightness') as Control;
    const nothing = { value: undefined, done: true };
    let brightness = 1;
    const hearsNothing = async () => {
      const events = camera.events(['source-change']);
      camera.setControls({ brightness: brightness++ });
      const waiting = events.next();
      await events.return?.();
      assert.deepEqual(await waiting, nothing);
      assert.deepEqual(await events.next(), nothing);
    };
    await hearsNothing();
    // One of both is none of a camera's.
    assert.throws(() => camera.events(['control', 'frame-sync'], { control: id }), { code: 'EINVAL' });
    await hearsNothing();
    await camera.events(['control'], { control: id }).return?.();
    await hearsNothing();
    assert.throws(() => camera.events([]), { code: 'ERR_INVALID_ARG_VALUE' });
    assert.throws(() => camera.events(['source-change'], { control: id }), { code: 'ERR_INVALID_ARG_VALUE' });
  });
});

describeModules('an output that is misused', () => {
  withVivid(['single', 'single']);

  function openRgb(number = 0): Output {
    const output = openOutput(number);
    output.setFormat(format);
    return output;
  }

  it('does nothing of its own after a sink', async () => {
    using output = openRgb();
    for (let round = 0; round < 2; round++) {
      const sink = output.sink({ count: 2 });
      for (let frame = 0; frame < 5; frame++) (await sink.acquire()).show();
      sink.close();
      await sleep(100);
      output.setFormat(format);
    }
  });

  it('waits for the program without work, where that has all buffers', async () => {
    using output = openRgb();
    using sink = output.sink({ count: 2 });
    const [first, second] = [await sink.acquire(), await sink.acquire()];
    const third = sink.acquire();
    const before = performance.eventLoopUtilization();
    await sleep(300);
    const { utilization } = performance.eventLoopUtilization(before);
    assert(utilization < 0.5, `${utilization}`);
    first.close();
    (await third).show();
    const fourth = sink.acquire();
    second.show();
    (await fourth).close();
  });

  it('says what is wrong about a frame to be shown, which stays the program’s', async () => {
    await leavesNoPage(async () => {
      using output = openRgb();
      using sink = output.sink({ count: 2 });
      using canvas = await sink.acquire();
      const size = canvas.buffers[0]?.size as number;
      for (const [wrong, code] of [
        [{ planes: [{ bytesUsed: -1 }] }, 'ERR_OUT_OF_RANGE'],
        [{ planes: [{ bytesUsed: 0 }] }, 'ERR_OUT_OF_RANGE'],
        [{ planes: [{ bytesUsed: size + 1 }] }, 'ERR_OUT_OF_RANGE'],
        [{ planes: [{ dataOffset: 16 }] }, 'ERR_OUT_OF_RANGE'],
        [{ planes: [{}, {}] }, 'ERR_OUT_OF_RANGE'],
        [{ planes: [{ used: 1 }] }, 'ERR_INVALID_ARG_VALUE'],
        [{ planes: [null] }, 'ERR_INVALID_ARG_TYPE'],
        [{ planes: 1 }, 'ERR_INVALID_ARG_TYPE'],
        [{ timestamp: 1 }, 'ERR_INVALID_ARG_TYPE'],
        [{ timestamp: -1n }, 'ERR_OUT_OF_RANGE'],
        [{ timestamp: 2n ** 31n * 1_000_000_000n }, 'ERR_OUT_OF_RANGE'],
        [{ field: 'sideways' }, 'ERR_INVALID_ARG_VALUE'],
        [{ filed: 'none' }, 'ERR_INVALID_ARG_VALUE'],
        [null, 'ERR_INVALID_ARG_TYPE'],
      ] as const) {
        assert.throws(() => canvas.show(wrong as never), { code, syscall: 'ioctl', path: output.path });
      }
      canvas.write((bytes) => bytes.fill(0));
      canvas.show({ planes: [{ bytesUsed: FRAME }], timestamp: 1n, field: 'none' });
      assert.equal(sink.queued, 1);
    });
  });

  it('frees with its sink what the program has not shown', async () => {
    await leavesNoPage(async () => {
      using output = openRgb();
      for (const heap of [undefined, openHeap('ion')]) {
        const sink = output.sink({ count: 2, ...(heap && { heap }) });
        const canvas = await sink.acquire();
        sink.close();
        assert.equal(canvas.buffers[0]?.closed, true);
        assert.throws(() => canvas.write(() => {}), { code: 'ERR_DMABUF_CLOSED' });
        heap?.close();
      }
    });
  });

  it('has a frame again that was left to the collector', async () => {
    using output = openRgb();
    using sink = output.sink({ count: 2 });
    using kept = await sink.acquire();
    await (async () => void (await sink.acquire()))();
    const warned = warningOf('DMABUF_NOT_CLOSED');
    let came = false;
    const third = sink.acquire().then((frame) => {
      came = true;
      frame.close();
    });
    await collectUntil(() => came);
    await third;
    await warned;
    assert.equal(kept.buffers.length, 1);
  });

  for (const [what, button] of [
    ['no buffers are to be had', 'inject_vidioc_reqbufs_error'],
    ['a buffer is refused', 'inject_vidioc_qbuf_error'],
    ['the driver does not begin', 'inject_vidioc_streamon_error'],
  ] as const) {
    it(`leaves nothing where ${what}, and is a sink again`, async () => {
      await leavesNoPage(async () => {
        using output = openRgb();
        using heap = openHeap('ion');
        const error = { code: 'EINVAL', syscall: 'ioctl', path: output.path };
        const draw = async (sink: FrameSink) => {
          for (let frame = 0; frame < 4; frame++) {
            using canvas = await sink.acquire();
            canvas.show();
          }
        };
        output.setControls({ [button]: true });
        using refused = output.sink({ count: 2, heap });
        await assert.rejects(draw(refused), error);
        refused.close();
        using sink = output.sink({ count: 2, heap });
        await draw(sink);
      });
    });
  }

  for (const [how, end] of [
    ['by its signal', (controller: AbortController) => controller.abort(new Error('enough'))],
    ['when it is closed', (_: AbortController, output: Output) => output.close()],
    [
      'when its driver does not go on',
      (_: AbortController, output: Output) => {
        using other = Output.open(output.path);
        other.setControls({ inject_fatal_streaming_error: true });
      },
    ],
  ] as const) {
    it(`ends what it plays ${how}, also while no frame comes`, async () => {
      await leavesNoPage(async () => {
        using camera = openCamera(0);
        using output = openRgb(1);
        using heap = openHeap('ion');
        const controller = new AbortController();
        const stream = camera.frames({ count: 3, heap });
        let silent: () => void = () => {};
        const silence = new Promise<void>((resolve) => (silent = resolve));
        let late: (frame: Frame) => void = () => {};
        const last = new Promise<Frame>((resolve) => (late = resolve));
        const source = async function* () {
          yield (await stream.next()).value as Frame;
          yield (await stream.next()).value as Frame;
          silent();
          yield await last;
        };
        const played = output.play(source(), { signal: controller.signal });
        const reason =
          how === 'by its signal' ? /enough/ : how === 'when it is closed' ? /closed|ended/ : { code: 'EIO' };
        const ended = assert.rejects(played, reason);
        await silence;
        end(controller, output);
        await ended;
        // One that comes too late is closed.
        const { value: held } = await stream.next();
        late(held as Frame);
        await sleep(10);
        assert.equal(held?.closed, true);
        await take(stream, 1, () => {});
      });
    });
  }

  for (const how of ['its driver does not go on', 'a signal ends it'] as const) {
    it(`gives back all it has of a camera where ${how}`, async () => {
      await leavesNoPage(async () => {
        using camera = openCamera(0);
        using output = openRgb(1);
        using heap = openHeap('ion');
        const controller = new AbortController();
        const stream = camera.frames({ count: 2, heap });
        let shown: () => void = () => {};
        const both = new Promise<void>((resolve) => (shown = resolve));
        const lent = async function* () {
          const frames: Frame[] = [];
          for (let i = 0; i < 2; i++) frames.push((await stream.next()).value as Frame);
          yield* frames;
          shown();
          // no other until these are back: an output keeps the last one it has
          while (!frames.every(({ closed }) => closed)) await sleep(5);
        };
        let sink: FrameSink | undefined;
        const played = output.play(lent(), {
          count: 2,
          signal: controller.signal,
          started: (made) => (sink = made),
        });
        const reason = new Error('enough');
        const ended = assert.rejects(played, how === 'a signal ends it' ? reason : { code: 'EIO', path: output.path });
        await both;
        await assert.rejects((sink as FrameSink | undefined)?.acquire() ?? Promise.resolve(), {
          code: 'EBUSY',
          message: /play\(\) brings its buffers/,
        });
        if (how === 'a signal ends it') controller.abort(reason);
        else {
          using other = Output.open(output.path);
          other.setControls({ inject_fatal_streaming_error: true });
        }
        await ended;
        await take(stream, 1, () => {});
      });
    });
  }
});
