// SPDX-License-Identifier: MIT
/** What goes wrong with a camera, as vivid is told to do it; and programs that end in the middle. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { openHeap, spawnWithSocket } from 'dmabuf';
import { Capture, videoDevices } from 'dmabuf/v4l2';
import { describeModules, eventually, leavesNoPage } from './support.ts';
import { checkRgbBars, HEIGHT, openCamera, openOutput, take, WIDTH, withVivid } from './v4l2.ts';

const bind = (how: 'bind' | 'unbind') => writeFileSync(`/sys/bus/platform/drivers/vivid/${how}`, 'vivid.0');

/** Has vivid do something by one of its buttons. */
function press(button: string): void {
  using camera = Capture.open();
  camera.setControls({ [button]: true });
}

describeModules('a camera with a fault', () => {
  withVivid(['single']);

  it('marks frames that its driver says are damaged', async () => {
    using camera = openCamera();
    const stream = camera.frames({ count: 3 });
    const damaged: boolean[] = [];
    for await (using frame of stream) {
      damaged.push(frame.damaged);
      if (stream.frames === 3) press('inject_v4l2_buf_flag_error');
      // and one more, which is well again
      if (damaged.at(-2) || stream.frames > 60) break;
    }
    assert.deepEqual(damaged.slice(-2), [true, false]);
    assert.equal(damaged.filter(Boolean).length, 1);
  });

  it('has what it lost counted', async () => {
    using camera = openCamera();
    camera.setControls({ percentage_of_dropped_buffers: 60 });
    const stream = camera.frames({ count: 4 });
    for await (using _ of stream) if (stream.dropped > 2 || stream.frames > 100) break;
    camera.setControls({ percentage_of_dropped_buffers: 0 });
    assert(stream.dropped > 2);
  });

  for (const [what, button, error] of [
    [
      'the driver does not go on',
      'inject_fatal_streaming_error',
      { code: 'EIO', message: /VIDIOC_D?QBUF.*another stream/ },
    ],
    ['a buffer is refused', 'inject_vidioc_qbuf_error', { code: 'EINVAL', message: /VIDIOC_QBUF/ }],
  ] as const) {
    it(`ends its loop where ${what}, and begins another`, async () => {
      await leavesNoPage(async () => {
        using camera = openCamera();
        const stream = camera.frames({ count: 3 });
        await assert.rejects(
          take(stream, 100, () => {
            if (stream.frames === 2) press(button);
          }),
          { syscall: 'ioctl', path: camera.path, ...error },
        );
        assert.equal(stream.closed, true);
        assert.deepEqual(await stream.next(), { value: undefined, done: true });
        await take(camera.frames({ count: 3 }), 1, checkRgbBars);
      });
    });
  }

  for (const [button, code] of [
    ['inject_vidioc_reqbufs_error', 'EINVAL'],
    ['inject_vidioc_qbuf_error', 'EINVAL'],
    ['inject_vidioc_streamon_error', 'EINVAL'],
  ] as const) {
    it(`begins no loop, and leaves nothing, after ${button}`, async () => {
      await leavesNoPage(async () => {
        using camera = openCamera();
        using heap = openHeap('ion');
        press(button);
        const refused = camera.frames({ count: 3, heap }).next();
        await assert.rejects(refused, {
          ...{ code, syscall: 'ioctl', path: camera.path },
          message:
            button === 'inject_vidioc_reqbufs_error' ? /take buffers of others .*leave `heap`/ : /refused|few|take/,
        });
        await take(camera.frames({ count: 3, heap }), 1, checkRgbBars);
      });
    });
  }

  it('ends its loop when it is unplugged, with frames in the hands of the program', async () => {
    await leavesNoPage(async () => {
      const gone = { code: 'ENODEV', syscall: 'ioctl', message: /The device is gone.*videoDevices\(\)/ };
      using camera = openCamera();
      using heap = openHeap('ion');
      const stream = camera.frames({ count: 3, heap });
      const { value: frame } = await stream.next();
      assert(frame);
      press('disconnect');
      await assert.rejects(
        (async () => {
          for await (using _ of stream);
        })(),
        gone,
      );
      checkRgbBars(frame);
      frame.close();
      assert.throws(() => camera.format, gone);
      assert.throws(() => camera.setFormat({ width: 320 }), gone);
      camera.close();
      // vivid is there again when nobody has it open.
      await eventually(() => Capture.open().close());
    });
  });

  it('ends its loop when its driver is unbound', async () => {
    await leavesNoPage(async () => {
      const camera = openCamera();
      using heap = openHeap('ion');
      const stream = camera.frames({ count: 3, heap });
      const { value: frame } = await stream.next();
      assert(frame);
      const second = stream.next();
      (await second).value?.close();
      const waiting = (async () => {
        for await (using _ of stream);
      })();
      const ended = assert.rejects(waiting, { code: 'ENODEV', message: /unplugged, or its driver unbound/ });
      bind('unbind');
      await ended;
      assert.deepEqual(videoDevices(), []);
      checkRgbBars(frame);
      frame.close();
      camera.close();
      bind('bind');
      using again = openCamera();
      await take(again.frames({ count: 2, heap }), 1, checkRgbBars);
    });
  });
});

describeModules('an output with a fault', () => {
  withVivid(['single']);

  it('ends who waits for a buffer when its driver is unbound', async () => {
    await leavesNoPage(async () => {
      const output = openOutput();
      output.setFormat({ width: WIDTH, height: HEIGHT, pixelFormat: 'RGB3' });
      using heap = openHeap('ion');
      const sink = output.sink({ count: 2, heap });
      for (let frame = 0; frame < 2; frame++) (await sink.acquire()).show();
      const canvas = await sink.acquire();
      // which it keeps: there is no other to be shown
      const waiting = sink.acquire();
      const ended = assert.rejects(waiting, { code: 'ENODEV', message: /unplugged, or its driver unbound/ });
      bind('unbind');
      await ended;
      assert.equal(sink.closed, true);
      assert.throws(() => canvas.show(), { code: 'ERR_DMABUF_CLOSED' });
      canvas.close();
      assert.throws(() => output.format, { code: 'ENODEV' });
      output.close();
      bind('bind');
      using again = openOutput();
      using another = again.sink({ count: 2, heap });
      (await another.acquire()).show();
    });
  });
});

describeModules('an output that wants one piece of memory', () => {
  withVivid(['single', 'single'], 'allocators=0,1');

  /** Large enough to be of several pieces. */
  const format = { width: 1280, height: 720, pixelFormat: 'RGB3' } as const;
  const inPieces = (path: string) => ({
    ...{ code: 'EFAULT', syscall: 'ioctl', path },
    message: /It comes from ion_system_heap, whose memory is in pieces: .*one piece.*contiguous: true/,
  });

  it('refuses a heap that has pieces, says what would do, and takes that', async () => {
    await leavesNoPage(async () => {
      using output = openOutput(1);
      using pieces = openHeap('ion', { heap: 'ion_system_heap' });
      using whole = openHeap('ion', { contiguous: true });
      output.setFormat(format);
      {
        using sink = output.sink({ count: 2, heap: pieces });
        using canvas = await sink.acquire();
        assert.throws(() => canvas.show(), inPieces(output.path));
        // and is the program's still
        assert.equal(canvas.buffers.length, 1);
      }
      using sink = output.sink({ count: 2, heap: whole });
      (await sink.acquire()).show();
      assert.equal(sink.queued, 1);
    });
  });

  it('refuses frames of a camera that are in pieces, and ends the loop over them', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera(0);
      using output = openOutput(1);
      using pieces = openHeap('ion', { heap: 'ion_system_heap' });
      camera.setFormat(format);
      output.setFormat(format);
      const stream = camera.frames({ count: 2, heap: pieces });
      await assert.rejects(output.play(stream), inPieces(output.path));
      assert.equal(stream.closed, true);
    });
  });
});

describeModules('a camera whose frames others have', () => {
  withVivid(['single']);

  it('goes on when a process that was sent frames is killed', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera();
      using heap = openHeap('ion');
      // keeps all it gets
      const script = `import { parentSocket } from 'dmabuf'; for await (const _ of parentSocket().buffers());`;
      const { child, socket } = spawnWithSocket(process.execPath, ['--input-type=module', '--eval', script], {
        stdio: ['ignore', 'inherit', 'inherit'],
      });
      const exit = once(child, 'exit');
      const stream = camera.frames({ count: 3, heap });
      for await (using frame of stream) {
        if (stream.frames <= 3) await socket.send(frame.sequence, frame.buffers);
        if (stream.frames === 3) child.kill('SIGKILL');
        if (stream.frames === 12) break;
      }
      await exit;
      socket.close();
      assert.equal(stream.frames, 12);
    });
  });

  it('is free when the process that captured is killed in the middle', async () => {
    await leavesNoPage(async () => {
      const script = `
        import { openHeap } from 'dmabuf';
        import { Capture } from 'dmabuf/v4l2';
        const camera = Capture.open();
        camera.setInput(0);
        const held = [];
        for await (const frame of camera.frames({ count: 4, heap: openHeap('ion') })) {
          held.push(frame);
          if (held.length === 2) process.send('streaming');
        }`;
      const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      });
      await once(child, 'message');
      using camera = Capture.open();
      await assert.rejects(camera.frames().next(), { code: 'EBUSY' });
      child.kill('SIGKILL');
      await once(child, 'close');
      await take(openCameraAgain(camera).frames({ count: 2 }), 1, checkRgbBars);
    });
  });
});

/** The same device in the format of the tests. */
function openCameraAgain(camera: Capture): Capture {
  camera.setControls({ osd_text_mode: 'None', test_pattern: '100% Colorbar', brightness: 128, contrast: 128 });
  camera.setFormat({ width: 320, height: 180, pixelFormat: 'RGB3', field: 'none' });
  return camera;
}
