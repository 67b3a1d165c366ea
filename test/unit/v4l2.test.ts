// SPDX-License-Identifier: MIT
/** What of V4L2 needs no device. */
import assert from 'node:assert/strict';
import { Capture, Codec, fourccCode, fourccName, Output, pipelineReport, videoDevices } from 'dmabuf/v4l2';

describe('a fourcc', () => {
  it('is the number of its characters, the first one lowest', () => {
    for (const [name, code] of [
      ['YUYV', 0x56595559],
      ['RGB3', 0x33424752],
      ['Y16', 0x20363159],
      ['Y16-BE', 0xa0363159],
    ] as const) {
      assert.equal(fourccCode(name), code);
      assert.equal(fourccName(code), name);
    }
    assert.equal(fourccCode('Y16 '), fourccCode('Y16'));
  });

  it('has one to four of them', () => {
    for (const name of ['', 'YUYV2', 'ü', 'a\0', '-BE']) {
      assert.throws(() => fourccCode(name), { code: 'ERR_INVALID_ARG_VALUE' }, name);
    }
    assert.throws(() => fourccCode(7 as never), { code: 'ERR_INVALID_ARG_TYPE' });
    assert.throws(() => fourccName(7n as never), { code: 'ERR_INVALID_ARG_TYPE' });
    for (const code of [-1, 0.5, 2 ** 32]) assert.throws(() => fourccName(code), { code: 'ERR_OUT_OF_RANGE' });
  });
});

describe('a video device', () => {
  it('is looked for by what it is called', () => {
    for (const wrong of [{ nmae: 'x' }, { name: 1 }, null, 3]) {
      for (const kind of [Capture, Output, Codec]) {
        assert.throws(() => kind.open(wrong as never), { message: /nmae|of type string|a path, or an object/ });
      }
    }
    assert.throws(() => Capture.open({ name: 'none such' }), { code: 'ENODEV', message: /name 'none such'/ });
    for (const { path, kind } of videoDevices()) {
      assert.match(path, /^\/dev\/video\d+$/);
      assert.match(kind, /^(capture|output|both|m2m|other)$/);
    }
  });

  it('is none of other files', () => {
    for (const path of ['/dev/null', '/dev/zero', '/etc/passwd', '/tmp']) {
      assert.throws(
        () => Capture.open(path),
        (error: NodeJS.ErrnoException) => {
          assert.match(String(error.code), /^(ENOTTY|EACCES|EISDIR)$/, path);
          return true;
        },
      );
    }
    assert.throws(() => Capture.open('/dev/video77'), { code: 'ENOENT', message: /videoDevices\(\)/ });
    assert.throws(() => Capture.open('a\0b'), { code: 'ERR_INVALID_ARG_VALUE' });
  });
});

describe('a report of a pipeline', () => {
  it('is of what has one', () => {
    for (const wrong of [undefined, null, 7n, {}, { stage: {} }]) {
      assert.throws(() => pipelineReport(wrong as never), { code: 'ERR_INVALID_ARG_TYPE', message: /"first"/ });
    }
  });
});
