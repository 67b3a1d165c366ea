// SPDX-License-Identifier: MIT
/** What of the errors of V4L2 needs no device. */
import assert from 'node:assert/strict';
import { Capture } from 'dmabuf/v4l2';

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
});
