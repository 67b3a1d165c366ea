// SPDX-License-Identifier: MIT
/** Which device is which, by what one says of itself; and what an error advises. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { videoError } from '../../lib/v4l2/advice.ts';
import { fits, kindOf, type VideoDeviceInfo } from '../../lib/v4l2/devices.ts';
import { layoutOf } from '../../lib/v4l2/layout.ts';
import { copiesByCpu, Newest } from '../../lib/v4l2/report.ts';

const { errno } = constants;

// linux/videodev2.h
const CAPTURE = 0x1;
const OUTPUT = 0x2;
const M2M = 0x8000;
const M2M_MPLANE = 0x4000;
const STREAMING = 0x04000000;

describe('a kind of video device', () => {
  it('makes frames of frames where it says so, and else has them come from it, go to it, or both', () => {
    assert.equal(kindOf(CAPTURE | STREAMING), 'capture');
    assert.equal(kindOf(OUTPUT | STREAMING), 'output');
    assert.equal(kindOf(M2M | STREAMING), 'm2m');
    assert.equal(kindOf(M2M_MPLANE | CAPTURE | OUTPUT | STREAMING), 'm2m');
    // v4l2loopback
    assert.equal(kindOf(CAPTURE | OUTPUT | STREAMING), 'both');
    assert.equal(kindOf(CAPTURE), 'other');
  });
});

const info: VideoDeviceInfo = {
  ...{ path: '/dev/video0', label: 'a label', kind: 'capture', driver: 'a-driver', name: 'A Name', bus: 'a-bus' },
  ...{ multiplanar: false, mediaController: false },
};

describe('a choice of a video device', () => {
  it('takes one that does what is wanted', () => {
    assert.equal(fits(info, {}, 'capture'), true);
    assert.equal(fits(info, {}, 'output'), false);
    for (const kind of ['capture', 'output'] as const) assert.equal(fits({ ...info, kind: 'both' }, {}, kind), true);
    assert.equal(fits({ ...info, kind: 'both' }, {}, 'm2m'), false);
    assert.equal(fits(info, { driver: 'a-driver', name: 'A Name', bus: 'a-bus', label: 'a l' }, 'capture'), true);
    for (const other of [{ driver: 'b' }, { name: 'A' }, { bus: 'b' }, { label: 'b' }]) {
      assert.equal(fits(info, other, 'capture'), false, JSON.stringify(other));
    }
  });

  it('takes a part of a graph where that is named alone', () => {
    const part = { ...info, mediaController: true };
    assert.equal(fits(part, {}, 'capture'), false);
    assert.equal(fits(part, { driver: 'a-driver' }, 'capture'), true);
    // which is a graph of its own, and whole
    assert.equal(fits({ ...part, kind: 'm2m' }, {}, 'm2m'), true);
  });
});

describe('an error of a video device', () => {
  it('says what to do', () => {
    const of = (error: number, request: `VIDIOC_${string}`, imports = false) =>
      videoError(-error, request, '/dev/video0', imports).message;
    assert.match(of(errno.EINVAL, 'VIDIOC_REQBUFS', true), /leave `heap` and `buffers` out/);
    assert.doesNotMatch(of(errno.EINVAL, 'VIDIOC_REQBUFS'), /heap/);
    assert.match(of(errno.ENOTTY, 'VIDIOC_EXPBUF'), /give a `heap`/);
    assert.match(of(errno.EPIPE, 'VIDIOC_STREAMON'), /media-ctl/);
  });
});

describe('a report of a device', () => {
  it('says of a driver that it copies where that is known, and else nothing', () => {
    for (const driver of ['vivid', 'uvcvideo']) assert.equal(copiesByCpu(driver), true);
    for (const driver of ['v4l2 loopback', 'rockchip-vpu', '']) assert.equal(copiesByCpu(driver), undefined);
  });

  it('remembers so many buffers, the newest', () => {
    const newest = new Newest(3);
    for (const inode of [1, 2, 1, 3]) newest.add(inode);
    assert.deepEqual([...newest], [1, 2, 3]);
    newest.add(4).add(5);
    assert.deepEqual([...newest], [3, 4, 5]);
  });
});

describe('the planes of colours in a buffer', () => {
  const format = (pixelFormat: string, size: number) => ({
    ...({ width: 64, height: 16, pixelFormat, field: 'none', colorspace: 'srgb', ycbcrEncoding: '601' } as const),
    ...({ quantization: 'limited', transferFunction: 'srgb', planes: [{ stride: 64, size }] } as const),
  });

  it('begin where the driver says that the picture does', () => {
    assert.deepEqual(layoutOf(format('GREY', 1024 + 128), 0, 128), [{ offset: 128, stride: 64, length: 1024 }]);
    assert.deepEqual(layoutOf(format('NV12', 1536 + 128), 0, 128), [
      { offset: 128, stride: 64, length: 1024 },
      { offset: 1152, stride: 64, length: 512 },
    ]);
  });

  it('are none where they have no room', () => {
    assert.deepEqual(layoutOf(format('NV12', 1536), 0, 128), []);
    assert.deepEqual(layoutOf(format('GREY', 1024), 0, 1024), []);
  });
});
