// SPDX-License-Identifier: MIT
/** Frames that devices make of frames: vim2m converts them, vicodec encodes and decodes. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { DmaBuf, openHeap } from 'dmabuf';
import {
  Capture,
  Codec,
  type CodecInput,
  type CodecStream,
  type Frame,
  pipelineReport,
  videoDevices,
} from 'dmabuf/v4l2';
import { collectUntil } from '../support.ts';
import { all, bytesOf, colourPicture, encoded, encoderOf, exchanged, greyPicture, meanDifference } from './codecs.ts';
import { describeDriver, hasDriver } from './drivers.ts';
import { everyHeapTable } from './ion.ts';
import { called, filled, memories } from './memories.ts';
import { describeModules, eventually, leavesNoPage, PAGE, suiteWithParameters, unload } from './support.ts';
import { openCamera, withVivid } from './v4l2.ts';

const run = promisify(execFile);
const example = (name: string) => run(process.execPath, [`examples/${name}.ts`]);

const [WIDTH, HEIGHT] = [64, 48];
const SIZE = WIDTH * HEIGHT * 3;

/** A converter from RGB3 to BGR3. */
function openConverter(): Codec {
  const codec = Codec.open({ driver: 'vim2m', from: 'RGB3', to: 'BGR3' });
  for (const side of [codec.input, codec.output]) {
    const { width, height, planes } = side.setFormat({ width: WIDTH, height: HEIGHT });
    assert.deepEqual([width, height, planes], [WIDTH, HEIGHT, [{ stride: WIDTH * 3, size: SIZE }]]);
  }
  return codec;
}

const pictures = (count: number) => Array.from({ length: count }, (_, number) => colourPicture(WIDTH, HEIGHT, number));

/** Checks that a frame is a picture converted. */
function checkPicture(frame: Frame, number: number): void {
  assert.deepEqual(frame.format.pixelFormat, 'BGR3');
  assert(Buffer.from(bytesOf(frame)).equals(exchanged(colourPicture(WIDTH, HEIGHT, number))), `picture ${number}`);
}

describeDriver('a converter of frames', 'vim2m', ['default_transtime=1'], () => {
  suiteWithParameters('ion', everyHeapTable);

  it('is found by what it makes of what', () => {
    const [found, ...others] = videoDevices();
    assert.deepEqual([found?.kind, found?.driver, others], ['m2m', 'vim2m', []]);
    using codec = openConverter();
    assert.equal(codec.kind, 'converter');
    assert.deepEqual([codec.input.format.pixelFormat, codec.output.format.pixelFormat], ['RGB3', 'BGR3']);
    const formats = codec.input.formats().map(({ pixelFormat }) => pixelFormat);
    assert(formats.includes('RGBP') && !formats.includes('YUYV'), String(formats));
    assert(codec.output.formats().some(({ pixelFormat }) => pixelFormat === 'YUYV'));
    assert.equal(codec.output.tryFormat({ width: 96 }).width, 96);
    assert.deepEqual(codec.output.picture, { left: 0, top: 0, width: WIDTH, height: HEIGHT });
    assert.throws(() => codec.input.setFormat({ pixelFormat: 'H264' }), { code: 'EINVAL', message: /'H264'.*RGB3/ });
    assert.throws(() => Codec.open({ from: 'RGB3', to: 'H264' }), {
      code: 'ENODEV',
      message: /no device that makes frames of frames from 'RGB3' to 'H264': there are \/dev\/video\d \(vim2m\)/,
    });
    assert.throws(() => Codec.open({ from: 'far too long' }), { code: 'ERR_INVALID_ARG_VALUE' });
    assert.throws(() => Capture.open(codec.path), { code: 'ENOTSUP', message: /makes frames of frames/ });
  });

  it('makes a frame of each picture, and says that their bytes were copied', async () => {
    await leavesNoPage(async () => {
      using codec = openConverter();
      const inputs = pictures(9).map((bytes, number) => ({ bytes, timestamp: BigInt(number) * 40_000_000n }));
      const stream = codec.process(inputs, { count: 3, inputCount: 2 });
      let number = 0;
      for await (using frame of stream) {
        checkPicture(frame, number);
        assert.deepEqual([frame.sequence, frame.timestamp], [number, BigInt(number) * 40_000_000n]);
        number++;
      }
      assert.deepEqual([number, stream.frames, stream.inputs, stream.closed], [9, 9, 9, true]);
      const report = pipelineReport(stream);
      assert.deepEqual([report.copies, report.copiedBytes], [9, 9 * SIZE]);
      assert.deepEqual([report.stages[0]?.frames, report.stages[0]?.driverCopies], [9, true]);
    });
  });

  for (const memory of memories.filter((info) => !info.protected)) {
    it(`reads buffers of ${called(memory)} and writes such, where they are`, async () => {
      await leavesNoPage(async () => {
        using codec = openConverter();
        using heap = openHeap(memory.kind, { heap: memory.name });
        const sources = pictures(5).map((bytes) => filled(memory, bytes));
        const done: number[] = [];
        const inputs = sources.map((buffer, number) => ({ buffers: buffer, done: () => void done.push(number) }));
        const stream = codec.process(inputs, { count: 3, heap });
        const seen = new Set<number>();
        let number = 0;
        for await (using frame of stream) {
          checkPicture(frame, number++);
          assert.equal(frame.planes[0]?.buffer.dma, true);
          seen.add(frame.buffers[0]?.inode as number);
        }
        assert.deepEqual(done, [0, 1, 2, 3, 4]);
        const { stages, copies } = pipelineReport(stream);
        assert.equal(copies, 0);
        assert.deepEqual(
          stages[0]?.given,
          sources.map(({ inode }) => inode),
        );
        assert.deepEqual(stages[0]?.gave, [...seen]);
        for (const buffer of sources) {
          assert.equal(buffer.closed, false);
          buffer.close();
        }
      });
    });
  }

  it('hands its frames on to the next, which reads them where they are', async () => {
    await leavesNoPage(async () => {
      using first = openConverter();
      using second = Codec.open({ driver: 'vim2m', from: 'BGR3', to: 'RGB3' });
      for (const side of [second.input, second.output]) side.setFormat({ width: WIDTH, height: HEIGHT });
      const converting = first.process(pictures(8), { count: 2 });
      const back = second.process(converting, { count: 2 });
      let number = 0;
      for await (using frame of back) {
        assert(Buffer.from(bytesOf(frame)).equals(colourPicture(WIDTH, HEIGHT, number++)));
      }
      assert.equal(number, 8);
      const { stages, copies } = pipelineReport(converting, back);
      assert.equal(copies, 8);
      assert.deepEqual(stages[1]?.given.toSorted(), stages[0]?.gave.toSorted());
      assert.deepEqual([stages[1]?.handedOn, stages[1]?.given.length], [true, 2]);
    });
  });

  it('does as its controls say', async () => {
    using codec = openConverter();
    codec.setControls({ vertical_flip: true });
    codec.output.setFormat({ pixelFormat: 'RGB3' });
    const [picture] = pictures(1) as [Uint8Array];
    const [found] = await all(codec.process([picture]), bytesOf);
    assert.deepEqual(found?.subarray(0, WIDTH * 3), picture.subarray((HEIGHT - 1) * WIDTH * 3));
  });

  it('asks for no more input than its driver has buffers for', async () => {
    await leavesNoPage(async () => {
      using codec = openConverter();
      let asked = 0;
      async function* endless(): AsyncGenerator<CodecInput> {
        for (;;) yield colourPicture(WIDTH, HEIGHT, asked++ % 3);
      }
      const stream = codec.process(endless(), { count: 2, inputCount: 2 });
      const held = [(await stream.next()).value, (await stream.next()).value];
      await sleep(300);
      // two that came out, two that the driver has
      assert.deepEqual([asked, stream.frames], [4, 2]);
      held[0]?.close();
      const third = await stream.next();
      await sleep(300);
      assert.deepEqual([asked, stream.frames], [5, 3]);
      checkPicture(held[1] as Frame, 1);
      third.value?.close();
      held[1]?.close();
      await stream.return();
    });
  });

  it('keeps no process that has taken a frame and asks for no more', async () => {
    for (const wanted of [1, 2]) {
      const script = `
        import { Codec } from 'dmabuf/v4l2';
        const codec = Codec.open({ driver: 'vim2m', from: 'RGB3', to: 'BGR3' });
        for (const side of [codec.input, codec.output]) side.setFormat({ width: ${WIDTH}, height: ${HEIGHT} });
        function* endless() { for (;;) yield new Uint8Array(${SIZE}); }
        const stream = codec.process(endless(), { count: 3 });
        for (let i = 0; i < ${wanted}; i++) console.log((await stream.next()).value.format.pixelFormat);`;
      const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { timeout: 90_000 });
      assert.equal(stdout, 'BGR3\n'.repeat(wanted));
    }
  });

  it('is collected with its frames where the program forgets it, and named', async () => {
    await leavesNoPage(async () => {
      let named = false;
      // Its buffers may be named, too.
      const seen = ({ message }: Error) => {
        named ||= /^Codec \/dev\/video\d+ was left to the garbage collector/.test(message);
      };
      process.on('warning', seen);
      const stream = await (async () => {
        const codec = openConverter();
        const forgotten = codec.process(pictures(20), { count: 3 });
        (await forgotten.next()).value?.close();
        return new WeakRef(forgotten);
      })();
      await collectUntil(() => stream.deref() === undefined && named);
      process.off('warning', seen);
      assert.deepEqual([stream.deref(), named], [undefined, true]);
    });
  });

  it('tells a loop that waits while the program holds all frames, and goes on when it closes one', async () => {
    await leavesNoPage(async () => {
      using codec = openConverter();
      const stream = codec.process(pictures(3), { count: 2 });
      const held = [(await stream.next()).value, (await stream.next()).value];
      const waiting = stream.next();
      const [warning] = await once(process, 'warning');
      assert.equal(warning.code, 'DMABUF_FRAMES_HELD');
      assert.match(warning.message, /program holds all 2/);
      held[0]?.close();
      const { value: third } = await waiting;
      checkPicture(third as Frame, 2);
      third?.close();
      assert.deepEqual(await stream.next(), { value: undefined, done: true });
      // and shows what it showed, after the end
      checkPicture(held[1] as Frame, 1);
      held[1]?.close();
    });
  });

  it('ends at once where there is no input', async () => {
    using codec = openConverter();
    assert.deepEqual(await all(codec.process([]), bytesOf), []);
  });

  it('ends with what the loop over its input ends with', async () => {
    await leavesNoPage(async () => {
      using codec = openConverter();
      const reason = new Error('no more film');
      async function* breaking(): AsyncGenerator<CodecInput> {
        yield* pictures(2);
        throw reason;
      }
      const stream = codec.process(breaking());
      await assert.rejects(all(stream, bytesOf), reason);
      assert.equal(stream.closed, true);
      assert.deepEqual(await stream.next(), { value: undefined, done: true });
    });
  });

  it('leaves the loop over its input where its own is left', async () => {
    await leavesNoPage(async () => {
      using codec = openConverter();
      let left = false;
      async function* endless(): AsyncGenerator<CodecInput> {
        try {
          for (;;) yield colourPicture(WIDTH, HEIGHT, 0);
        } finally {
          left = true;
        }
      }
      for await (using _frame of codec.process(endless())) break;
      assert.equal(left, true);
      // and can be used afterwards
      assert.equal((await all(codec.process(pictures(2)), bytesOf)).length, 2);
    });
  });

  it('ends by a signal, also while it waits for input that never comes', async () => {
    await leavesNoPage(async () => {
      using codec = openConverter();
      const reason = new Error('enough');
      const controller = new AbortController();
      async function* stuck(): AsyncGenerator<CodecInput> {
        yield colourPicture(WIDTH, HEIGHT, 0);
        await new Promise(() => {});
      }
      const stream = codec.process(stuck(), { signal: controller.signal });
      (await stream.next()).value?.close();
      const waiting = stream.next();
      controller.abort(reason);
      await assert.rejects(waiting, reason);
      await assert.rejects(codec.process(pictures(1), { signal: controller.signal }).next(), reason);
    });
  });

  it('is closed in the middle of its work, and frames that came out stay', async () => {
    await leavesNoPage(async () => {
      const codec = openConverter();
      const stream = codec.process(pictures(20), { count: 2 });
      const { value: frame } = await stream.next();
      const waiting = stream.next();
      (await waiting).value?.close();
      codec.close();
      assert.deepEqual(await stream.next(), { value: undefined, done: true });
      checkPicture(frame as Frame, 0);
      frame?.close();
      assert.throws(() => codec.process([]), { code: 'ERR_DMABUF_CLOSED' });
    });
  });

  it('ends when its driver is unbound, in the middle of its work', async () => {
    await leavesNoPage(async () => {
      const bind = (how: 'bind' | 'unbind') => writeFileSync(`/sys/bus/platform/drivers/vim2m/${how}`, 'vim2m.0');
      const codec = openConverter();
      using heap = openHeap('ion');
      async function* endless(): AsyncGenerator<CodecInput> {
        for (;;) yield colourPicture(WIDTH, HEIGHT, 0);
      }
      const stream = codec.process(endless(), { heap });
      const { value: frame } = await stream.next();
      bind('unbind');
      await assert.rejects(all(stream, bytesOf), { code: 'ENODEV', message: /unplugged, or its driver unbound/ });
      assert.equal(stream.closed, true);
      checkPicture(frame as Frame, 0);
      frame?.close();
      codec.close();
      bind('bind');
      using again = openConverter();
      assert.equal((await all(again.process(pictures(2), { heap }), bytesOf)).length, 2);
    });
  });

  it('closes the frames it was handed, whatever happens', async () => {
    await leavesNoPage(async () => {
      using first = openConverter();
      using second = openConverter();
      const handed: Frame[] = [];
      async function* noted(stream: CodecStream): AsyncGenerator<Frame> {
        for await (const frame of stream) {
          handed.push(frame);
          yield frame;
        }
      }
      // The one puts out BGR3, the other wants RGB3.
      const converting = first.process(pictures(4));
      await assert.rejects(all(second.process(noted(converting)), bytesOf), {
        code: 'EINVAL',
        message: /input's pixelFormat is RGB3, and that of the frame BGR3: input\.setFormat\(\)/,
      });
      assert.deepEqual([handed.length, handed[0]?.closed, converting.closed], [1, true, true]);
    });
  });

  it('takes a frame once at a time', async () => {
    await leavesNoPage(async () => {
      using first = openConverter();
      using second = openConverter();
      first.output.setFormat({ pixelFormat: 'RGB3' });
      second.setControls({ 'Transaction Time (msec)': 200 });
      const { value: frame } = await first.process(pictures(1)).next();
      assert(frame);
      await assert.rejects(all(second.process([frame, frame]), bytesOf), {
        code: 'EBUSY',
        message: /driver has this frame already/,
      });
      assert.equal(frame.closed, true);
      await assert.rejects(all(second.process([frame]), bytesOf), { code: 'ERR_DMABUF_CLOSED' });
    });
  });

  it('refuses what is no picture for it, and says why', async () => {
    await leavesNoPage(async () => {
      using codec = openConverter();
      using heap = openHeap('ion');
      using small = heap.allocSync(PAGE);
      using large = heap.allocSync(SIZE);
      const picture = colourPicture(WIDTH, HEIGHT, 0);
      const refused = (inputs: Iterable<unknown>) => codec.process(inputs as Iterable<CodecInput>).next();
      await assert.rejects(refused([small]), {
        code: 'ERR_OUT_OF_RANGE',
        message: new RegExp(`at least ${SIZE} bytes: plane 0 of 64x48 RGB3 needs them. Received one of ${PAGE} bytes`),
      });
      await assert.rejects(refused([new Uint8Array(SIZE + 1)]), {
        code: 'ERR_OUT_OF_RANGE',
        message: new RegExp(`"bytes".* 1 to ${SIZE} bytes.* Received ${SIZE + 1}`),
      });
      await assert.rejects(refused([new Uint8Array(0)]), { code: 'ERR_OUT_OF_RANGE' });
      await assert.rejects(refused([{ bytes: [picture, picture] }]), {
        code: 'ERR_OUT_OF_RANGE',
        message: /"bytes.length".* 1, one array for each plane/,
      });
      await assert.rejects(refused([picture, large]), { code: 'EINVAL', message: /began with bytes, and goes on/ });
      await assert.rejects(refused([large, picture]), { code: 'EINVAL', message: /began with buffers, and goes on/ });
      for (const wrong of [7, 'picture', null, {}, { bytes: 'none' }, { buffers: [7] }, { buffers: large, done: 1 }]) {
        await assert.rejects(refused([wrong]), { code: 'ERR_INVALID_ARG_TYPE' }, String(wrong));
      }
      const seconds = 1_000_000_000n;
      for (const [wrong, code] of [
        [{ bytes: picture, timestamp: -1n }, 'ERR_OUT_OF_RANGE'],
        [{ bytes: picture, timestamp: 2n ** 31n * seconds }, 'ERR_OUT_OF_RANGE'],
        [{ bytes: picture, field: 'sideways' }, 'ERR_INVALID_ARG_VALUE'],
        [{ buffers: large, timestamp: 1 }, 'ERR_INVALID_ARG_TYPE'],
        [{ buffers: large, planes: 1 }, 'ERR_INVALID_ARG_TYPE'],
        [{ buffers: large, planes: [{}, {}] }, 'ERR_OUT_OF_RANGE'],
        [{ buffers: large, planes: [{ used: 1 }] }, 'ERR_INVALID_ARG_VALUE'],
        [{ buffers: large, planes: [{ bytesUsed: -1 }] }, 'ERR_OUT_OF_RANGE'],
        [{ buffers: large, planes: [{ bytesUsed: large.size + 1 }] }, 'ERR_OUT_OF_RANGE'],
        [{ buffers: large, planes: [{ dataOffset: 16 }] }, 'ERR_OUT_OF_RANGE'],
      ] as const) {
        await assert.rejects(refused([wrong]), { code, syscall: 'ioctl', path: codec.path });
      }
      // A machine may have run for a year.
      const late = 365n * 86_400n * seconds;
      const converted = codec.process([{ bytes: picture, timestamp: late }]);
      assert.deepEqual(await all(converted, ({ timestamp }) => timestamp), [late]);
      await assert.rejects(refused([{ bytes: picture, color: 'red' }]), { name: 'TypeError' });
      using memfd = openHeap('memfd');
      using none = memfd.allocSync(SIZE);
      await assert.rejects(refused([none]), { syscall: 'ioctl', message: /It is a memfd, which stands in/ });
      for (const wrong of [picture, 'frames', 7, null, {}]) {
        assert.throws(() => codec.process(wrong as unknown as CodecInput[]), { code: 'ERR_INVALID_ARG_TYPE' });
      }
      assert.throws(() => codec.process([], { count: 0 }), { code: 'ERR_OUT_OF_RANGE' });
      assert.throws(() => codec.process([], { inputCount: 33 }), { code: 'ERR_OUT_OF_RANGE' });
      using stream = codec.process([picture]);
      assert.throws(() => codec.process([picture]), { code: 'EBUSY', message: /at work already/ });
      (await stream.next()).value?.close();
    });
  });
});

const [CODED_WIDTH, CODED_HEIGHT] = [640, 360];

/** What a picture loses at most by FWHT as vicodec does it, in the mean, of 255. */
const LOSS = 2;

for (const planes of ['single', 'multi'] as const) {
  describeDriver(
    `a codec with ${planes === 'single' ? 'one plane' : 'planes'}`,
    'vicodec',
    [`multiplanar=${planes === 'multi' ? 1 : 0}`],
    () => {
      suiteWithParameters('ion', everyHeapTable);

      const grey = (count: number) =>
        Array.from({ length: count }, (_, number) => greyPicture(CODED_WIDTH, CODED_HEIGHT, number));

      function checkGrey(frame: Frame, number: number, height = CODED_HEIGHT): void {
        const { pixelFormat, width } = frame.format;
        assert.deepEqual([pixelFormat, width, frame.format.height], ['GREY', CODED_WIDTH, height]);
        const loss = frame.read((bytes) => meanDifference(bytes, greyPicture(CODED_WIDTH, height, number)));
        assert(loss <= LOSS, `picture ${number} has lost ${loss}`);
      }

      it('is found by what it makes of what', () => {
        using encoder = encoderOf(CODED_WIDTH, CODED_HEIGHT);
        using decoder = Codec.open({ from: 'FWHT', to: 'GREY' });
        assert.deepEqual([encoder.kind, decoder.kind], ['encoder', 'decoder']);
        assert.notEqual(encoder.path, decoder.path);
        assert.deepEqual(encoder.input.picture, { left: 0, top: 0, width: CODED_WIDTH, height: CODED_HEIGHT });
        assert.equal(encoder.output.format.planes[0]?.stride, 0);
        for (const side of [encoder.input, encoder.output, decoder.input, decoder.output]) {
          assert.deepEqual([side.multiplanar, side.format.planes.length], [planes === 'multi', 1]);
        }
        assert(videoDevices().every(({ multiplanar }) => multiplanar === (planes === 'multi')));
      });

      it('encodes and decodes buffers of a heap, and each stage reads those the one before has written', async () => {
        await leavesNoPage(async () => {
          using encoder = encoderOf(CODED_WIDTH, CODED_HEIGHT);
          using decoder = Codec.open({ from: 'FWHT' });
          decoder.input.setFormat(encoder.output.format);
          using heap = openHeap('ion', { heap: 'the_system' });
          const sources = grey(7).map((bytes) => {
            const buffer = heap.allocSync(bytes.length);
            buffer.write((target) => target.set(bytes));
            return buffer;
          });
          const inputs = sources.map((buffers, number) => ({ buffers, timestamp: BigInt(number + 1) * 1_000_000n }));
          const encoding = encoder.process(inputs, { count: 3, heap });
          let size = 0;
          async function* weighed(): AsyncGenerator<Frame> {
            for await (const frame of encoding) {
              size += frame.planes[0]?.bytesUsed ?? 0;
              yield frame;
            }
          }
          const decoding = decoder.process(weighed(), { count: 3, heap });
          let number = 0;
          for await (using frame of decoding) {
            checkGrey(frame, number++);
            assert.equal(frame.timestamp, BigInt(number) * 1_000_000n);
          }
          assert.deepEqual([number, encoding.frames, decoding.inputs, decoding.changes], [7, 7, 7, 0]);
          assert(size > 0 && size < (7 * CODED_WIDTH * CODED_HEIGHT) / 2, `${size} bytes`);
          const { stages, copies } = pipelineReport(encoding, decoding);
          assert.equal(copies, 0);
          assert.deepEqual(
            stages[0]?.given,
            sources.map(({ inode }) => inode),
          );
          assert.deepEqual(stages[1]?.given.toSorted(), stages[0]?.gave.toSorted());
          assert.deepEqual([stages[1]?.handedOn, stages[1]?.gave.length], [true, 3]);
          for (const buffer of sources) buffer.close();
        });
      });

      it('hands out all frames of few buffers, its own, when the input ends', async () => {
        await leavesNoPage(async () => {
          const stream = await encoded(CODED_WIDTH, CODED_HEIGHT, grey(6));
          assert.equal(stream.length, 6);
          using decoder = Codec.open({ from: 'FWHT', to: 'GREY' });
          let number = 0;
          for await (using frame of decoder.process(stream, { count: 1, inputCount: 1 })) checkGrey(frame, number++);
          assert.equal(number, 6);
          // another stream, with the same codec
          assert.equal((await all(decoder.process(stream.slice(0, 2)), bytesOf)).length, 2);
        });
      });

      it('decodes a stream in pieces of any size, whose bytes are copied', async () => {
        await leavesNoPage(async () => {
          const stream = Buffer.concat(await encoded(CODED_WIDTH, CODED_HEIGHT, grey(4)));
          using decoder = Codec.open({ from: 'FWHT', to: 'GREY' });
          const pieces: Uint8Array[] = [];
          for (let at = 0; at < stream.length; at += 3001) pieces.push(stream.subarray(at, at + 3001));
          const decoding = decoder.process(pieces);
          let number = 0;
          for await (using frame of decoding) checkGrey(frame, number++);
          assert.deepEqual([number, decoding.inputs], [4, pieces.length]);
          const report = pipelineReport(decoding);
          assert.deepEqual([report.copies, report.copiedBytes], [pieces.length, stream.length]);
        });
      });

      it('reads as much of a buffer as is in use, and counts what it could not read', async () => {
        await leavesNoPage(async () => {
          const [first, second] = (await encoded(CODED_WIDTH, CODED_HEIGHT, grey(2))) as [Uint8Array, Uint8Array];
          using decoder = Codec.open({ from: 'FWHT', to: 'GREY' });
          const [plane] = decoder.input.setFormat({ width: CODED_WIDTH, height: CODED_HEIGHT }).planes;
          assert(plane);
          using heap = openHeap('ion');
          const buffers = [first, second].map((bytes) => {
            using large = heap.allocSync(plane.size);
            // left by what was in it before
            large.write((target) => target.fill(0x4f));
            large.write((target) => target.set(bytes));
            return DmaBuf.fromFd(large.takeFd(), { length: bytes.length });
          });
          const decoding = decoder.process(buffers, { count: 2 });
          let number = 0;
          for await (using frame of decoding) checkGrey(frame, number++);
          assert.deepEqual([number, decoding.inputs, decoding.damagedInputs], [2, 2, 0]);
          for (const buffer of buffers) buffer.close();
        });
      });

      it('goes on after what it cannot read, marks what it made of it, and counts it', async () => {
        await leavesNoPage(async () => {
          const [first, second, third] = grey(3) as [Uint8Array, Uint8Array, Uint8Array];
          const [one, other] = (await encoded(CODED_WIDTH, CODED_HEIGHT, [first, second])) as [Uint8Array, Uint8Array];
          // A version there is not.
          const broken = Uint8Array.from(other).fill(0xff, 8, 12);
          const noise = new Uint8Array(500);
          // Of an encoder that has seen no other: it builds on none.
          const stream = [one, broken, noise, ...(await encoded(CODED_WIDTH, CODED_HEIGHT, [third]))];
          using decoder = Codec.open({ from: 'FWHT', to: 'GREY' });
          const decoding = decoder.process(stream, { count: 2 });
          const damaged: boolean[] = [];
          for await (using frame of decoding) {
            damaged.push(frame.damaged);
            if (!frame.damaged) checkGrey(frame, damaged.length - 1);
          }
          assert.deepEqual(damaged, [false, true, false]);
          assert.deepEqual([decoding.inputs, decoding.damagedInputs], [4, 2]);
        });
      });

      it('goes on with new buffers where pictures change their size, and those from before stay', async () => {
        await leavesNoPage(async () => {
          const taller = CODED_HEIGHT + 40;
          const stream = [
            ...(await encoded(CODED_WIDTH, CODED_HEIGHT, grey(3))),
            ...(await encoded(
              CODED_WIDTH,
              taller,
              [3, 4].map((number) => greyPicture(CODED_WIDTH, taller, number)),
            )),
            ...(await encoded(CODED_WIDTH, CODED_HEIGHT, grey(2))),
          ];
          using decoder = Codec.open({ from: 'FWHT', to: 'GREY' });
          using heap = openHeap('ion', { heap: 'the_system' });
          for (const options of [{ count: 2 }, { count: 2, heap }]) {
            const decoding = decoder.process(stream, options);
            const { value: kept } = await decoding.next();
            assert(kept);
            const found: [number, number][] = [];
            const buffers = new Set<DmaBuf>();
            for await (using frame of decoding) {
              const number = found.length + 1;
              const height = number === 3 || number === 4 ? taller : CODED_HEIGHT;
              checkGrey(frame, number > 4 ? number - 5 : number, height);
              const [buffer] = frame.buffers;
              assert(buffer && buffer.size >= CODED_WIDTH * height);
              buffers.add(buffer);
              found.push([number, frame.format.height]);
            }
            assert.deepEqual([found.length, decoding.changes], [6, 2]);
            assert([...buffers].every(({ closed }) => closed));
            checkGrey(kept, 0);
            kept.close();
          }
        });
      });

      it('hears of such changes where a loop of the program does, too', async () => {
        await leavesNoPage(async () => {
          const taller = CODED_HEIGHT + 40;
          const stream = [
            ...(await encoded(CODED_WIDTH, CODED_HEIGHT, grey(2))),
            ...(await encoded(CODED_WIDTH, taller, [greyPicture(CODED_WIDTH, taller, 2)])),
          ];
          using decoder = Codec.open({ from: 'FWHT', to: 'GREY' });
          const events = decoder.events(['source-change']);
          const heard: boolean[] = [];
          const listening = (async () => {
            for await (const event of events) heard.push(event.type === 'source-change' && event.resolution);
          })();
          const decoding = decoder.process(stream, { count: 2 });
          assert.deepEqual(await all(decoding, ({ format }) => format.height), [CODED_HEIGHT, CODED_HEIGHT, taller]);
          await events.return?.();
          await listening;
          // Its first picture is one.
          assert.deepEqual([decoding.changes, heard], [1, [true, true]]);
        });
      });

      it('puts out the pixel format that was asked for, also after such a change', async () => {
        await leavesNoPage(async () => {
          const colours = async (height: number) => {
            using encoder = encoderOf(CODED_WIDTH, height, 'RGB3');
            const picture = new Uint8Array(CODED_WIDTH * height * 3);
            for (let at = 0; at < picture.length; at += 3) picture[at] = 200;
            return await all(encoder.process([picture]), bytesOf);
          };
          const stream = [...(await colours(CODED_HEIGHT)), ...(await colours(CODED_HEIGHT + 40))];
          using decoder = Codec.open({ from: 'FWHT', to: 'BGR3' });
          const found = await all(decoder.process(stream), (frame) => {
            const [blue, green, red] = frame.read((bytes) => [...bytes.subarray(3000, 3003)]) as [
              number,
              number,
              number,
            ];
            assert(Math.abs(red - 200) <= 8 && green <= 8 && blue <= 8, `${[red, green, blue]}`);
            return `${frame.format.height} ${frame.format.pixelFormat}`;
          });
          assert.deepEqual(found, ['360 BGR3', '400 BGR3']);
        });
      });

      it('says that it has met no picture, where there is none', async () => {
        await leavesNoPage(async () => {
          using decoder = Codec.open({ from: 'FWHT', to: 'GREY' });
          assert.deepEqual(await all(decoder.process([]), bytesOf), []);
          await assert.rejects(all(decoder.process([Buffer.alloc(4000, 'no film')]), bytesOf), {
            code: 'EILSEQ',
            syscall: 'ioctl',
            message: /met no picture in what it was given: is that FWHT\?/,
          });
          const [first] = await encoded(CODED_WIDTH, CODED_HEIGHT, grey(1));
          assert.equal((await all(decoder.process([first as Uint8Array]), bytesOf)).length, 1);
        });
      });

      it('is left in the middle, and leaves nothing', async () => {
        await leavesNoPage(async () => {
          const stream = await encoded(CODED_WIDTH, CODED_HEIGHT, grey(5));
          using decoder = Codec.open({ from: 'FWHT', to: 'GREY' });
          for await (using frame of decoder.process(stream, { count: 2 })) {
            checkGrey(frame, 0);
            break;
          }
          const controller = new AbortController();
          const decoding = decoder.process(stream, { count: 2, signal: controller.signal });
          const { value: frame } = await decoding.next();
          controller.abort();
          await assert.rejects(decoding.next(), { name: 'AbortError' });
          checkGrey(frame as Frame, 0);
          frame?.close();
          const encoder = encoderOf(CODED_WIDTH, CODED_HEIGHT);
          const encoding = encoder.process(grey(5));
          (await encoding.next()).value?.close();
          encoder.close();
          assert.deepEqual(await encoding.next(), { value: undefined, done: true });
        });
      });
    },
  );
}

describeDriver('a codec with one plane, of a camera with planes', 'vicodec', ['multiplanar=0'], () => {
  withVivid(['multi']);

  it('refuses a frame that begins further inside its buffer, of which it cannot be told', async () => {
    await leavesNoPage(async () => {
      // as vivid does with this format where all of it is multi-planar
      using camera = openCamera(0, 'YUYV');
      camera.setFormat({ width: CODED_WIDTH, height: CODED_HEIGHT });
      using codec = encoderOf(CODED_WIDTH, CODED_HEIGHT, 'YUYV');
      let offset: number | undefined;
      const stream = camera.frames({ count: 2 });
      const frames = async function* () {
        for await (const frame of stream) {
          offset = frame.planes[0]?.dataOffset;
          yield frame;
        }
      };
      await assert.rejects(codec.process(frames()).next(), {
        ...{ code: 'EINVAL', syscall: 'ioctl', path: codec.path },
        message: /The frame has bytes in front of its picture/,
      });
      assert(offset !== undefined && offset > 0, `${offset}`);
      assert.equal(stream.closed, true);
    });
  });
});

describeDriver('the example camera-encode-decode', 'vicodec', [], () => {
  after(() => eventually(() => unload('vivid')));

  it('loses little on the way, and copies nothing', async function () {
    // a node that compiles TypeScript, and a codec of the CPU
    this.timeout(Math.max(this.timeout(), 400_000));
    await leavesNoPage(async () => {
      const { stdout } = await example('camera-encode-decode');
      assert.match(stdout, /^10 frames of 640x360 RGB3 became \d+ bytes of FWHT, \d+\.\d %, and frames\n/);
      assert(Number(/PSNR ([\d.]+) dB/.exec(stdout)?.[1]) >= 30, stdout);
      assert.match(stdout, /copies by the library: 0\n$/);
      const stages = [
        ...stdout.matchAll(
          /, (?:vivid|vicodec): (?:given ([\d ]+) \(handed on: true\), gave|fills) buffers ([\d ]+)\n/g,
        ),
      ];
      const buffers = stages.map(([, given, gave]) => ({
        given: given?.split(' ') ?? [],
        gave: gave?.split(' ') ?? [],
      }));
      assert.equal(buffers.length, 3, stdout);
      for (const [index, { given }] of buffers.entries()) {
        assert(index === 0 || given.length > 0);
        for (const inode of given) assert(buffers[index - 1]?.gave.includes(inode), stdout);
      }
    });
  });
});

describeModules('the example camera-encode-decode on a kernel without codecs', () => {
  after(async () => {
    if (!hasDriver('vicodec')) await eventually(() => unload('vivid'));
  });

  it('says what to do', async function () {
    if (hasDriver('vicodec')) this.skip();
    await assert.rejects(example('camera-encode-decode'), ({ code, stderr }: { code: number; stderr: string }) => {
      assert.equal(code, 1);
      assert.match(stderr, /^camera-encode-decode: .*its kernel no vicodec \(.*scripts\/guest --kernel lab/m);
      return true;
    });
  });
});
