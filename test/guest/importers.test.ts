// SPDX-License-Identifier: MIT
/** Dma-bufs in drivers of the kernel: vgem (maps them for a device, up to 6.12) and vivid (writes into them). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants, release } from 'node:os';
import { CmaMem, DmaBuf, openHeap } from 'dmabuf';
import { vgemCard, vividCamera, vividWith, whileImported, withDriver } from './drivers.ts';
import { everyHeapTable } from './ion.ts';
import { allocate, called, memories } from './memories.ts';
import {
  debugfs,
  describeModules,
  eventually,
  largestBlock,
  leavesNoPage,
  PAGE,
  staysLoaded,
  suiteWithParameters,
  systemErrorOf,
} from './support.ts';

/** Bytes of vivid's frame. */
const FRAME = 320 * 180 * 3;

/** Whether dma_buf_vmap() takes an exporter's refusal for a bug of its own; the debug kernel's report is known. */
const warnsOfRefusal = !release().startsWith('5.10.') && !release().endsWith('-debug');

/** Runs a program with buffers as its descriptors 3 and up: the numbers in its last line. */
function run(path: string, args: readonly string[], fds: readonly number[]): number[] {
  const said = execFileSync(path, args, { stdio: ['ignore', 'pipe', 'pipe', ...fds], encoding: 'utf8' });
  return (said.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
}

describeModules('the error for a driver that does not take a buffer', () => {
  suiteWithParameters('ion', everyHeapTable);

  const refused = (buffer: DmaBuf, errno: number) => buffer.importError(-errno, '/dev/video0').message;

  it('tells which heap it comes from, and what that means', async () => {
    const { EFAULT, EINVAL } = constants.errno;
    const parts = {
      the_system: new RegExp(`comes from the_system, whose memory is in pieces: .* ${(2 * PAGE) / 1024} KiB`),
      the_protected: /comes from the_protected, which is protected/,
      the_dma: /is one piece from the_dma\. /,
      cma_mem: /is one piece from cma_mem\. /,
    };
    for (const memory of memories.filter(({ name }) => Object.hasOwn(parts, name))) {
      using buffer = allocate(memory, 2 * PAGE);
      for (const errno of [EFAULT, EINVAL])
        assert.match(refused(buffer, errno), parts[memory.name as keyof typeof parts]);
    }
    using device = CmaMem.open();
    const region = await device.allocate(2 * PAGE);
    using exported = region.export();
    assert.match(refused(exported, EFAULT), parts.cma_mem);
  });

  it('does not guess where the errno says enough', () => {
    using heap = openHeap('ion');
    using buffer = heap.allocSync(1);
    assert.equal(refused(buffer, constants.errno.ENODEV), "ENODEV: no such device, ioctl '/dev/video0'");
    assert.match(refused(buffer, constants.errno.EMFILE), /ulimit -n/);
  });
});

describeModules('vgem', () => {
  suiteWithParameters('ion', everyHeapTable);
  const importer = withDriver('vgem', [], 'vgem-import');

  for (const memory of memories) {
    it(`takes a buffer of ${called(memory)}, and makes whoever polls it wait`, async () => {
      await leavesNoPage(() => {
        using buffer = allocate(memory, 7 * PAGE);
        const args = [vgemCard(), memory.protected ? 'protected' : 'map'];
        const [size, inode, ownMap] = run(importer, args, [buffer.fd]);
        assert.deepEqual([size, inode], [7 * PAGE, buffer.inode]);
        // Some releases of 5.10 have a map of their own of what they import, not 5.10.223; later lines map what they export again.
        assert(ownMap === 0 || release().startsWith('5.10.'));
        if (memory.protected) assert.throws(() => buffer.map(), { code: 'EPERM', syscall: 'mmap' });
        else buffer.read((bytes) => assert(bytes.every((byte, i) => byte === ((i * 31) & 0xff))));
      });
    });
  }
});

for (const mapping of ['cpu', 'device'] as const) {
  describeModules(mapping === 'cpu' ? 'vivid' : 'vivid, which maps buffers for a device', () => {
    suiteWithParameters('ion', everyHeapTable);
    const capture = withDriver('vivid', vividWith(mapping), 'v4l2-capture');

    // White, yellow, cyan, green, magenta, red, blue, black: which of red, green and blue each has.
    const bars = [0b111, 0b110, 0b011, 0b010, 0b101, 0b100, 0b001, 0b000];

    // For a device it takes one piece.
    const fit = memories.filter(({ contiguous }) => mapping === 'cpu' || contiguous);
    for (const memory of fit.filter((info) => !info.protected)) {
      it(`captures a frame into a buffer of ${called(memory)}`, async () => {
        await leavesNoPage(() => {
          using first = allocate(memory, FRAME);
          using second = allocate(memory, FRAME);
          const [width, height, stride, used, index] = run(capture, [vividCamera(), '2'], [first.fd, second.fd]);
          assert.deepEqual([width, height, stride, used], [320, 180, 960, FRAME]);
          const frame = index === 0 ? first : second;
          frame.read((bytes) => {
            // below the text vivid writes over its picture
            const row = 170 * 960;
            for (const [bar, colour] of bars.entries()) {
              const pixel = row + (bar * 40 + 20) * 3;
              const rgb = [...bytes.subarray(pixel, pixel + 3)];
              const has = rgb.reduce((bits, value) => bits * 2 + (value > 127 ? 1 : 0), 0);
              assert.equal(has, colour, `bar ${bar} is ${rgb}`);
            }
          });
        });
      });
    }

    for (const memory of memories.filter((info) => mapping === 'device' && !info.contiguous)) {
      it(`is refused a buffer of ${called(memory)}, in more than one piece, and the library says why`, async () => {
        await leavesNoPage(() => {
          // No block of the page allocator is that large.
          using buffer = allocate(memory, largestBlock() + PAGE);
          const camera = vividCamera();
          assert.throws(() => run(capture, [camera, '1', 'queue'], [buffer.fd]), /VIDIOC_QBUF: Bad address/);
          const why = new RegExp(
            `It comes from ${memory.name}, whose memory is in pieces: .*one piece.*contiguous: true`,
          );
          const expected = systemErrorOf('EFAULT', constants.errno.EFAULT, 'ioctl', camera, why);
          assert(expected(buffer.importError(-constants.errno.EFAULT, camera)));
          using copy = buffer.dup();
          assert(expected(copy.importError(-constants.errno.EFAULT, camera)));
          using received = DmaBuf.fromFd(buffer.dup().takeFd());
          assert.match(received.importError(-constants.errno.EFAULT, camera).message, /It may be in pieces/);
        });
      });
    }

    // One block, and so one piece: what it is to be written over it must not lose to a cache.
    if (mapping === 'device') {
      it('captures a frame into a block of scattered memory', async () => {
        await leavesNoPage(() => {
          using heap = openHeap('ion', { heap: 'the_system' });
          using first = heap.allocSync(2 ** 20);
          using second = heap.allocSync(2 ** 20);
          const [width, height, stride, used, index] = run(capture, [vividCamera(), '2'], [first.fd, second.fd]);
          assert.deepEqual([width, height, stride, used], [320, 180, 960, FRAME]);
          const frame = index === 0 ? first : second;
          frame.read((bytes) => {
            assert(bytes.subarray(0, FRAME).some((byte) => byte !== 0));
            assert(bytes.subarray(FRAME).every((byte) => byte === 0));
          });
        });
      });
    }

    for (const memory of fit.filter((info) => info.protected)) {
      const kind = `buffers of ${called(memory)}`;
      if (mapping === 'device') {
        it(`maps ${kind}, for its device`, async () => {
          await leavesNoPage(async () => {
            using first = allocate(memory, FRAME);
            using second = allocate(memory, FRAME);
            const mapped = () => readFileSync(debugfs('ion/buffers'), 'utf8').match(/^ +vivid\.0 +mapped$/gm)?.length;
            await whileImported(capture, [vividCamera(), '2', 'queue'], [first, second], () => {
              assert.equal(mapped(), 2);
            });
            await eventually(() => assert.equal(mapped(), undefined));
          });
        });
      } else if (warnsOfRefusal)
        it(`is refused ${kind}: dma_buf_vmap() of this kernel warns of that as if it was a bug`);
      else {
        it(`is refused ${kind}, which it would map for the CPU`, async () => {
          await leavesNoPage(() => {
            using buffer = allocate(memory, FRAME);
            assert.throws(() => run(capture, [vividCamera(), '1', 'queue'], [buffer.fd]), /VIDIOC_QBUF: Bad address/);
          });
        });
      }
    }

    it('refuses a buffer smaller than its frame', async () => {
      await leavesNoPage(() => {
        using heap = openHeap('ion');
        using small = heap.allocSync(FRAME - PAGE);
        const camera = vividCamera();
        assert.throws(() => run(capture, [camera, '1'], [small.fd]), /VIDIOC_QBUF/);
        const { message } = small.importError(-constants.errno.EINVAL, camera);
        assert(message.includes(`${small.size / 1024} KiB`), message);
      });
    });

    it('keeps the module of its buffers loaded', async () => {
      using heap = openHeap('ion', { contiguous: true });
      // that of 5.10 begins with two buffers, not with one
      using first = heap.allocSync(FRAME);
      using second = heap.allocSync(FRAME);
      run(capture, [vividCamera(), '2'], [first.fd, second.fd]);
      staysLoaded('ion_lite');
    });
  });
}
