// SPDX-License-Identifier: MIT
/** What of the errors of V4L2 needs no device. */
import assert from 'node:assert/strict';
import { Capture, Codec, Output } from 'dmabuf/v4l2';

describe('a video device that there is not', () => {
  it('is named by what was said of it, and not by what was not', () => {
    assert.throws(
      () => Capture.open({ label: 'none such', name: undefined as never }),
      (error: Error) => {
        assert.match(error.message, /with label 'none such'[:.]/);
        return true;
      },
    );
  });

  it('is not asked for by a path where its name was meant, which the error tells from it', () => {
    for (const open of [Capture.open, Output.open, Codec.open]) {
      assert.throws(() => open('vivid'), { code: 'ENOENT', message: /no path: .*open\(\{ driver: 'vivid' \}\)/ });
      assert.throws(() => open('/dev/video99'), { code: 'ENOENT', message: /This machine has no such device/ });
    }
  });
});
