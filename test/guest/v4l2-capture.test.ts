// SPDX-License-Identifier: MIT
/** Frames of a camera, vivid's, in buffers of every heap and in its own. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type DmaBuf, openHeap } from 'dmabuf';
import { Capture, type FormatRequest, type Frame, videoDevices } from 'dmabuf/v4l2';
import { everyHeapTable } from './ion.ts';
import { allocate, called, memories } from './memories.ts';
import { describeModules, leavesNoPage, PAGE, suiteWithParameters } from './support.ts';
import { assertNear, checkBars, checkRgbBars, HEIGHT, openCamera, take, WIDTH, warningOf, withVivid } from './v4l2.ts';

const RGB_FRAME = WIDTH * HEIGHT * 3;

describeModules('a machine without a camera', () => {
  it('has no video devices, and says what would make one', () => {
    assert.deepEqual(videoDevices(), []);
    assert.throws(() => Capture.open(), { code: 'ENODEV', message: /no device that frames come from.*modprobe vivid/ });
    assert.throws(() => Capture.open('/dev/video0'), { code: 'ENOENT', message: /modprobe vivid/ });
    assert.throws(() => Capture.open('/dev/ion'), { code: 'ENOTTY', message: /no V4L2 device/ });
    assert.throws(() => Capture.open('/dev/null'), { code: 'ENOTTY', message: /no V4L2 device/ });
  });
});

describeModules('a camera', () => {
  suiteWithParameters('ion', everyHeapTable);
  withVivid(['single', 'multi']);

  it('is found by what it can do, and by what it is called', () => {
    const found = videoDevices().map(({ kind, driver, name, multiplanar, error }) => ({
      ...{ kind, driver, name, multiplanar, error },
    }));
    const device = { driver: 'vivid', name: 'vivid', error: undefined };
    assert.deepEqual(found, [
      { ...device, kind: 'capture', multiplanar: false },
      { ...device, kind: 'output', multiplanar: false },
      { ...device, kind: 'capture', multiplanar: true },
      { ...device, kind: 'output', multiplanar: true },
    ]);
    using first = Capture.open();
    using second = Capture.open({ driver: 'vivid', label: 'vivid-001' });
    assert.deepEqual([first.multiplanar, second.multiplanar], [false, true]);
    assert.notEqual(first.path, second.path);
    assert.throws(() => Capture.open({ name: 'Obscura' }), {
      code: 'ENODEV',
      message: /name 'Obscura': there are \/dev\/video\d \(vivid\), /,
    });
    const output = videoDevices().find(({ kind }) => kind === 'output')?.path as string;
    assert.throws(() => Capture.open(output), {
      code: 'ENOTSUP',
      message: /frames go to, not one that frames come from/,
    });
  });

  it('lists formats, sizes and intervals, and takes them', () => {
    using camera = Capture.open();
    const formats = camera.formats().map(({ pixelFormat }) => pixelFormat);
    for (const pixelFormat of ['YUYV', 'RGB3', 'NV12', 'Y10', 'AR24', 'Y16-BE']) assert(formats.includes(pixelFormat));
    assert(!formats.includes('NM12'));
    camera.setInput(0);
    const size = camera.sizes('RGB3').find(({ maxWidth }) => maxWidth === 640);
    assert.deepEqual(size, {
      ...{ minWidth: 640, maxWidth: 640, stepWidth: 0, minHeight: 360, maxHeight: 360, stepHeight: 0, discrete: true },
    });
    assert.deepEqual(camera.sizes('none'), []);
    const intervals = camera.intervals('RGB3', 320, 180).map(({ max }) => max);
    assert(intervals.some(({ numerator, denominator }) => numerator === 1 && denominator === 25));
    camera.setFormat({ width: WIDTH, height: HEIGHT, pixelFormat: 'RGB3' });
    assert.deepEqual(camera.setInterval({ numerator: 1, denominator: 25 }), { numerator: 1, denominator: 25 });
    assert.deepEqual(camera.interval, { numerator: 1, denominator: 25 });
    // which means the driver's own to the kernel
    for (const [numerator, denominator] of [
      [1, 0],
      [0, 25],
      [0, 0],
    ] as const) {
      assert.throws(() => camera.setInterval({ numerator, denominator }), { code: 'ERR_OUT_OF_RANGE' });
    }
    assert.deepEqual(camera.interval, { numerator: 1, denominator: 25 });
    const before = camera.format;
    assert.deepEqual(before.planes, [{ stride: WIDTH * 3, size: RGB_FRAME }]);
    assert.equal(camera.tryFormat({ pixelFormat: 'NV12' }).planes[0]?.size, (WIDTH * HEIGHT * 3) / 2);
    // the nearest there is
    assert.equal(camera.tryFormat({ width: 321, height: 181 }).width, 320);
    assert.deepEqual(camera.format, before);
    assert.throws(() => camera.setFormat({ pixelFormat: 'NM12' }), {
      code: 'EINVAL',
      message: /'NM12'.*there are .*YUYV/,
    });
    assert.throws(() => camera.setFormat({ pixelFormat: 'far too long' }), { code: 'ERR_INVALID_ARG_VALUE' });
    assert.throws(() => camera.setFormat({ width: 0 }), { code: 'ERR_OUT_OF_RANGE' });
    assert.throws(() => camera.setFormat({ field: 'sideways' as 'none' }), {
      message: /must be one of any, none, top/,
    });
    assert.deepEqual(camera.format, before);
  });

  it('says what its colours mean, and is told', () => {
    using camera = openCamera();
    camera.setControls({ colorspace: 'BT.2020', quantization: 'Limited Range' });
    const { colorspace, quantization } = camera.format;
    assert.deepEqual({ colorspace, quantization }, { colorspace: 'bt2020', quantization: 'limited' });
    camera.setControls({ colorspace: 'sRGB', quantization: 'Default' });
    assert.equal(camera.format.colorspace, 'srgb');
  });

  it('is asked for colours that mean something else, where it converts them', function () {
    for (const number of [0, 1]) {
      using camera = openCamera(number, 'YUYV');
      const converts = camera.formats().find(({ pixelFormat }) => pixelFormat === 'YUYV')?.converts;
      // since 5.12
      if (converts?.length === 0) return this.skip();
      assert.deepEqual(converts, ['colorspace', 'transferFunction', 'ycbcrEncoding', 'quantization']);
      const wanted: FormatRequest = {
        ...{ colorspace: 'bt2020', ycbcrEncoding: 'bt2020', quantization: 'full', transferFunction: 'smpte2084' },
      };
      for (const format of [camera.tryFormat(wanted), camera.setFormat(wanted), camera.format]) {
        const { colorspace, ycbcrEncoding, quantization, transferFunction } = format;
        assert.deepEqual({ colorspace, ycbcrEncoding, quantization, transferFunction }, wanted);
      }
      assert.equal(camera.setFormat({ quantization: 'limited' }).quantization, 'limited');
      // vivid keeps them, unless its controls change
      const controls = ['transfer_function', 'y_cbcr_encoding', 'quantization'];
      for (const item of [1, 0]) camera.setControls(Object.fromEntries(controls.map((key) => [key, item])));
      for (const colorspace of ['BT.2020', 'sRGB']) camera.setControls({ colorspace });
    }
  });

  const inputs = ['its own memory', ...memories.filter((info) => !info.protected)] as const;
  for (const memory of inputs) {
    const name = typeof memory === 'string' ? memory : `buffers of ${called(memory)}`;

    it(`captures frames into ${name}, of one plane or of two`, async () => {
      await leavesNoPage(async () => {
        for (const number of [0, 1]) {
          using camera = openCamera(number);
          using heap = typeof memory === 'string' ? undefined : openHeap(memory.kind, { heap: memory.name });
          const stream = camera.frames({ count: 3, ...(heap && { heap }) });
          const sequences = await take(stream, 3, (frame) => {
            checkRgbBars(frame);
            const [plane, ...others] = frame.planes;
            assert.deepEqual(others, []);
            assert(plane !== undefined);
            assert.deepEqual([plane.bytesUsed, plane.dataOffset, plane.stride], [RGB_FRAME, 0, WIDTH * 3]);
            assert.equal(plane.buffer.dma, true);
            assert.match(plane.buffer.name, /^video\d \d\.0$/);
            assert.deepEqual([frame.damaged, frame.monotonic, frame.field], [false, true, 'none']);
            return frame.sequence;
          });
          assert.deepEqual(
            [...sequences].sort((a, b) => a - b),
            sequences,
          );
          assert.equal(stream.frames, 3);
        }
        using camera = openCamera(1, 'NM16');
        using heap = typeof memory === 'string' ? undefined : openHeap(memory.kind, { heap: memory.name });
        const { planes, pixelFormat } = camera.format;
        assert.deepEqual([planes.length, pixelFormat], [2, 'NM16']);
        await take(camera.frames({ count: 2, ...(heap && { heap }) }), 2, (frame) => {
          assert.deepEqual(
            frame.planes.map(({ stride, bytesUsed, dataOffset }) => ({ stride, used: bytesUsed - dataOffset })),
            planes.map(({ stride }) => ({ stride, used: WIDTH * HEIGHT })),
          );
          // White is bright, black is dark, and both are grey.
          frame.read((luma) => assertNear([luma[4], luma[WIDTH - 4]], [235, 16], 'luma'));
          frame.read((chroma) => assertNear([chroma[4], chroma[WIDTH - 4]], [128, 128], 'chroma'), 1);
        });
      });
    });
  }

  it('has what a driver leaves free in front of each plane', async () => {
    // vivid begins the first plane of this format further inside.
    using camera = openCamera(1, 'NM16');
    await take(camera.frames({ count: 2 }), 1, (frame) => {
      const offsets = frame.planes.map(({ dataOffset }) => dataOffset);
      assert.equal(offsets.length, 2);
      assert((offsets[0] as number) > 0, String(offsets));
      for (const [plane, { bytesUsed, dataOffset }] of frame.planes.entries()) {
        assert.equal(bytesUsed - dataOffset, WIDTH * HEIGHT);
        frame.read((bytes) => assert.equal(bytes.length, WIDTH * HEIGHT), plane);
      }
      frame.read((luma) => assertNear([luma[4]], [235], 'luma'));
      // as its buffers tell a display
      for (const { buffer, dataOffset, stride } of frame.planes) {
        const [plane, ...others] = buffer.planes;
        assert.deepEqual([plane?.offset, plane?.stride, others], [dataOffset, stride, []]);
        assert((plane?.length ?? 0) >= WIDTH * HEIGHT && dataOffset + (plane?.length ?? 0) <= buffer.length);
      }
    });
  });

  it('has the format of its buffers, whatever others do to it until there are some', async () => {
    using camera = openCamera();
    const worker = new Worker(
      `
      const { parentPort, workerData } = require('node:worker_threads');
      void import('dmabuf/v4l2').then(({ Capture }) => {
        const camera = Capture.open(workerData);
        const set = (pixelFormat) => { try { camera.setFormat({ pixelFormat }) } catch {} };
        parentPort.postMessage('there');
        const turn = () => {
          for (let i = 0; i < 20; i++) { set('YUYV'); set('RGB3'); }
          setImmediate(turn);
        };
        parentPort.once('message', () => process.exit());
        turn();
      });`,
      { eval: true, workerData: camera.path },
    );
    await once(worker, 'message');
    try {
      for (let round = 0; round < 40; round++) {
        using stream = camera.frames({ count: 1 });
        const { value: frame } = await stream.next();
        assert.deepEqual(frame?.format, camera.format, `round ${round}`);
        frame?.close();
      }
    } finally {
      await worker.terminate();
    }
  });

  it('captures into buffers of the program, which stay its own', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera(1, 'NM16');
      const memory = memories.find((info) => info.contiguous && !info.protected);
      assert(memory);
      const { planes } = camera.format;
      const buffers = [0, 1, 2].map(() => planes.map(({ size }) => allocate(memory, size)));
      const inodes = buffers.map((list) => list.map(({ inode }) => inode));
      const stream = camera.frames({ buffers });
      const seen = await take(stream, 4, (frame) => frame.buffers.map(({ inode }) => inode));
      for (const list of seen) assert(inodes.some((known) => String(known) === String(list)));
      for (const buffer of buffers.flat()) {
        assert.equal(buffer.closed, false);
        buffer.close();
      }
    });
  });

  it('says which plane a buffer is too small for, what that needs, and what it was given', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera(1, 'NM16');
      using heap = openHeap('ion');
      const { planes } = camera.format;
      const buffers = [0, 1].map(() => planes.map(({ size }) => heap.allocSync(size)));
      const small = heap.allocSync(PAGE);
      buffers[1]?.pop()?.close();
      await assert.rejects(camera.frames({ buffers }).next(), {
        code: 'ERR_OUT_OF_RANGE',
        message: /"buffers\[1\]\.length".* 2, one buffer for each plane of 320x180 NM16. Received 1/,
      });
      buffers[1]?.push(small);
      const size = planes[1]?.size;
      await assert.rejects(camera.frames({ buffers }).next(), {
        code: 'ERR_OUT_OF_RANGE',
        message: new RegExp(
          `"buffers\\[1\\]\\[1\\]".* at least ${size} bytes: plane 1 of 320x180 NM16 needs them. Received one of ${PAGE} bytes`,
        ),
      });
      // and can be used afterwards
      await take(camera.frames({ count: 2, heap }), 1, () => {});
      for (const buffer of buffers.flat()) buffer.close();
    });
  });

  it('is refused a memfd, which is none of its memory, and says so', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera();
      using heap = openHeap('memfd');
      await assert.rejects(camera.frames({ heap }).next(), {
        syscall: 'ioctl',
        message: /It is a memfd, which stands in/,
      });
      await take(camera.frames({ count: 2 }), 1, checkRgbBars);
    });
  });

  it('drops what it has no buffer for, and goes on', async () => {
    using camera = openCamera();
    const stream = camera.frames({ count: 2 });
    let last = -1;
    const gaps: number[] = [];
    for (let round = 0; round < 3; round++) {
      const { value: frame } = await stream.next();
      assert(frame);
      if (last >= 0) gaps.push(frame.sequence - last - 1);
      last = frame.sequence;
      await sleep(500);
      frame.close();
    }
    assert(
      gaps.some((gap) => gap > 0),
      String(gaps),
    );
    assert.equal(
      stream.dropped,
      gaps.reduce((sum, gap) => sum + gap, 0),
    );
    assert.equal(stream.skipped, 0);
    stream.close();
  });

  it('gives a slow loop the newest frame, where that is what it wants', async () => {
    using camera = openCamera();
    using stream = camera.frames({ count: 4, latest: true });
    let last = (await stream.next()).value;
    while (stream.skipped === 0) {
      assert(last);
      const before = stream.skipped + stream.dropped;
      last.close();
      await sleep(500);
      const next: Frame | undefined = (await stream.next()).value;
      assert(next);
      // Those that were filled meanwhile, and for the rest there was no buffer.
      assert.equal(stream.skipped + stream.dropped - before, next.sequence - last.sequence - 1);
      last = next;
    }
    last?.close();
  });

  it('waits where the program holds all frames, and tells it', async () => {
    using camera = openCamera();
    using stream = camera.frames({ count: 2 });
    const held = [(await stream.next()).value, (await stream.next()).value];
    const warned = warningOf('DMABUF_FRAMES_HELD');
    const next = stream.next();
    assert.match((await warned).message, /holds all 2: close\(\) frames/);
    held[0]?.close();
    const { value } = await next;
    assert.notEqual(value?.buffers[0]?.inode, held[1]?.buffers[0]?.inode);
    value?.close();
    held[1]?.close();
  });

  it('streams once at a time, for all programs', async () => {
    using camera = openCamera();
    using other = Capture.open(camera.path);
    using stream = camera.frames({ count: 2 });
    (await stream.next()).value?.close();
    assert.throws(() => camera.frames(), { code: 'EBUSY', message: /loop over its frames is there already/ });
    await assert.rejects(other.frames().next(), { code: 'EBUSY', message: /VIDIOC_REQBUFS: Its buffers are in use/ });
    assert.throws(() => other.setFormat({ pixelFormat: 'YUYV' }), { code: 'EBUSY', message: /VIDIOC_S_FMT/ });
    stream.close();
    await take(other.frames({ count: 2 }), 1, checkRgbBars);
  });

  it('may be stopped while the program has a frame, which shows what it showed', async () => {
    await leavesNoPage(async () => {
      using heap = openHeap('ion');
      for (const options of [{}, { heap }]) {
        const camera = openCamera();
        const stream = camera.frames({ count: 3, ...options });
        const { value: frame } = await stream.next();
        assert(frame);
        const waiting = stream.next();
        camera.close();
        assert.deepEqual(await waiting.catch((error) => error.code), { value: undefined, done: true });
        assert.deepEqual(await stream.next(), { value: undefined, done: true });
        checkRgbBars(frame);
        const buffer = frame.buffers[0] as DmaBuf;
        frame.close();
        frame.close();
        assert.equal(buffer.closed, true);
        assert.throws(() => frame.planes, {
          code: 'ERR_DMABUF_CLOSED',
          message: /Frame \d+ of \/dev\/video\d is closed/,
        });
        assert.throws(() => camera.format, { code: 'ERR_DMABUF_CLOSED' });
      }
    });
  });

  it('ends a wait by a signal, and leaves nothing', async () => {
    await leavesNoPage(async () => {
      using camera = openCamera();
      const controller = new AbortController();
      using stream = camera.frames({ count: 2, signal: controller.signal });
      const held = [(await stream.next()).value, (await stream.next()).value];
      const reason = new Error('enough');
      const waiting = stream.next();
      controller.abort(reason);
      await assert.rejects(waiting, reason);
      assert.equal(stream.closed, true);
      for (const frame of held) frame?.close();
    });
  });

  it('captures in other formats, whose bars are where they should be', async () => {
    using camera = openCamera(0, 'AR24');
    // blue, green, red, alpha
    await take(camera.frames({ count: 2 }), 1, (frame) => {
      const stride = frame.planes[0]?.stride as number;
      frame.read((bytes) =>
        checkBars((x, y) => [...bytes.subarray(y * stride + x * 4, y * stride + x * 4 + 3)].reverse()),
      );
    });
    camera.setFormat({ pixelFormat: 'NV12' });
    await take(camera.frames({ count: 2 }), 1, (frame) => {
      const [luma, chroma] = frame.buffers[0]?.planes ?? [];
      assert(luma && chroma);
      assert.deepEqual([luma.offset, luma.length, chroma.offset, chroma.length], [0, 57600, 57600, 28800]);
      frame.read((bytes) => assertNear([bytes[4], bytes[chroma.offset + 4], bytes[316]], [235, 128, 16], 'NV12'));
    });
  });
});
