// SPDX-License-Identifier: MIT
/** Whether a device can read the frames of another where they are. @module */
import { constants as osConstants } from 'node:os';
import { systemError } from '../errors.js';
import type { Format } from './formats.js';
import type { Frame } from './frame.js';
import type { BufferQueue } from './queue.js';

const SIZED = ['pixelFormat', 'width', 'height'] as const;

/** What a device reads. @internal */
export interface Reader {
  /** whose buffers they become, with the format they have to have */
  queue: BufferQueue;
  /** whether that is the input of a device that has an output, too */
  input: boolean;
  /** whether a stream may change the size of its pictures */
  compressed: boolean;
}

/**
 * Checks a frame that another device has made.
 *
 * @throws SystemError EINVAL: it has another format, or lies in its buffer in a way that the device cannot be told of
 * @internal
 */
export function checkHandedOn(frame: Frame, { queue, input, compressed }: Reader): void {
  const whose = input ? "input's " : '';
  const mend = input ? 'input.setFormat()' : 'setFormat()';
  const refuse = (advice: string) => systemError(-osConstants.errno.EINVAL, 'ioctl', queue.device.path, advice);
  const wanted = queue.format as Format;
  for (const name of compressed ? SIZED.slice(0, 1) : SIZED) {
    const [found, other] = [wanted[name], frame.format[name]];
    if (found === other) continue;
    throw refuse(`Its ${whose}${name} is ${found}, and that of the frame ${other}: ${mend} makes them one.`);
  }
  if (!compressed) {
    for (const [plane, { stride }] of wanted.planes.entries()) {
      const other = frame.format.planes[plane]?.stride;
      if (other === undefined || other === stride) continue;
      throw refuse(
        `Rows of its ${whose}plane ${plane} are ${stride} bytes apart, and those of the frame ${other}: ${mend} takes planes with a stride, where the driver can do that.`,
      );
    }
  }
  if (queue.port.multiplanar || frame.planes.every(({ dataOffset }) => dataOffset === 0)) return;
  throw refuse('The frame has bytes in front of its picture, and no single-planar device can be told of them.');
}
