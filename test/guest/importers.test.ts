// SPDX-License-Identifier: MIT
/** Dma-bufs in drivers of the kernel: vgem (maps them for a device) and vivid (writes into them). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { heaps, openHeap } from 'dmabuf';
import { describeModules, eventually, leavesNoPage, load, PAGE, program, staysLoaded, unload } from './support.ts';

const heapsToTry = [
  { kind: 'ion', name: 'ion_system_heap', cached: true },
  { kind: 'ion', name: 'ion_system_heap', cached: false },
  { kind: 'ion', name: 'ion_dma_heap', cached: true },
  { kind: 'cma-mem', name: 'cma_mem', cached: true },
  { kind: 'cma-mem', name: 'cma_mem', cached: false },
  ...heaps()
    .filter(({ kind }) => kind === 'udmabuf' || kind === 'dma-heap')
    .map(({ kind, name }) => ({ kind, name, cached: true })),
];

/** Loads a driver for the tests of a suite, which need a program of ./c besides. */
function withDriver(driver: string, parameters: readonly string[], name: string): string {
  const { path, missing } = program(name);
  before(function () {
    if (missing !== undefined) {
      assert(this.test?.parent);
      this.test.parent.title += ` (${missing})`;
      this.skip();
    }
    load(driver, ...parameters);
  });

  after(async () => {
    if (missing === undefined) await eventually(() => unload(driver));
  });

  return path;
}

/** Runs a program with buffers as its descriptors 3 and up: the numbers it prints. */
function run(path: string, args: readonly string[], fds: readonly number[]): number[] {
  const said = execFileSync(path, args, { stdio: ['ignore', 'pipe', 'pipe', ...fds], encoding: 'utf8' });
  return said.trim().split(' ').map(Number);
}

describeModules('vgem', () => {
  const importer = withDriver('vgem', [], 'vgem-import');
  let card = '';

  before(() => {
    // a platform device, from 6.16 on a faux one
    const name = readdirSync('/sys/class/drm').find((entry) => {
      return /^card\d+$/.test(entry) && readlinkSync(`/sys/class/drm/${entry}`).includes('/vgem/');
    });
    card = `/dev/dri/${name}`;
  });

  for (const { kind, name, cached } of heapsToTry) {
    it(`maps a buffer of ${name}, ${cached ? '' : 'not '}cached, and makes whoever polls it wait`, async () => {
      await leavesNoPage(() => {
        using heap = openHeap(kind, { heap: name });
        using buffer = heap.allocSync(7 * PAGE, { cached });
        assert.deepEqual(run(importer, [card], [buffer.fd]), [7 * PAGE, buffer.inode]);
        buffer.read((bytes) => assert(bytes.every((byte, i) => byte === ((i * 31) & 0xff))));
      });
    });
  }
});

describeModules('vivid', () => {
  // One camera, and nothing else.
  const capture = withDriver('vivid', ['n_devs=1', 'node_types=0x1', 'no_error_inj=1'], 'v4l2-capture');
  let camera = '';

  before(() => {
    const name = readdirSync('/sys/class/video4linux').find((entry) =>
      readFileSync(`/sys/class/video4linux/${entry}/name`, 'utf8').startsWith('vivid-000-vid-cap'),
    );
    camera = `/dev/${name}`;
  });

  // White, yellow, cyan, green, magenta, red, blue, black: which of red, green and blue each has.
  const bars = [0b111, 0b110, 0b011, 0b010, 0b101, 0b100, 0b001, 0b000];

  for (const { kind, name, cached } of heapsToTry) {
    it(`captures a frame into a buffer of ${name}, ${cached ? '' : 'not '}cached`, async () => {
      await leavesNoPage(() => {
        using heap = openHeap(kind, { heap: name });
        const length = 320 * 180 * 3;
        using first = heap.allocSync(length, { cached });
        using second = heap.allocSync(length, { cached });
        const [width, height, stride, used, index] = run(capture, [camera, '2'], [first.fd, second.fd]);
        assert.deepEqual([width, height, stride, used], [320, 180, 960, length]);
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

  it('refuses a buffer smaller than its frame', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('ion');
      using small = heap.allocSync(320 * 180 * 3 - PAGE);
      assert.throws(() => run(capture, [camera, '1'], [small.fd]), /VIDIOC_QBUF/);
    });
  });

  it('keeps the module of its buffers loaded', async () => {
    using heap = openHeap('ion');
    // that of 5.10 begins with two buffers, not with one
    using first = heap.allocSync(320 * 180 * 3);
    using second = heap.allocSync(320 * 180 * 3);
    run(capture, [camera, '2'], [first.fd, second.fd]);
    staysLoaded('ion_lite');
  });
});
