// SPDX-License-Identifier: MIT
/** What to do about an error of a V4L2 driver, said in a sentence. @module */
import { constants } from 'node:os';
import { descriptorAdvice, memoryAdvice } from '../advice.js';
import { type SystemError, systemError } from '../errors.js';

const { errno } = constants;

/** A call of linux/videodev2.h. */
export type Request = `VIDIOC_${string}`;

const NO_DEVICE =
  'This machine has no such device. `modprobe vivid` as root makes a camera that is none; videoDevices() lists what there is.';

const IMPORT =
  'The driver may not take buffers of others (dma-bufs): leave `heap` and `buffers` out, and it exports its own.';
const EXPORT = 'The driver cannot export its memory (dma-buf): give a `heap`, whose buffers it may take.';

function reason(error: number, request: Request, imports: boolean): string | undefined {
  if (request === 'VIDIOC_REQBUFS' && error === -errno.EINVAL && imports) return IMPORT;
  if (request === 'VIDIOC_EXPBUF' && (error === -errno.ENOTTY || error === -errno.EINVAL)) return EXPORT;
  switch (-error) {
    case errno.EPIPE:
      return request === 'VIDIOC_STREAMON'
        ? 'The parts of its graph do not fit each other: set them up first, with media-ctl or by libcamera.'
        : undefined;
    case errno.ENODEV:
    case errno.ENXIO:
      return 'The device is gone: it was unplugged, or its driver unbound. Close it; videoDevices() lists what is there now.';
    case errno.EBUSY:
      return 'Its buffers are in use, by another program or by a stream of this one: end that first.';
    case errno.EIO:
      return 'The driver has met an error that it does not go on after: begin another stream.';
    case errno.ENOTTY:
      return 'This driver has no such call.';
    case errno.EINVAL:
      return request === 'VIDIOC_STREAMON' ? 'The driver may have too few buffers.' : undefined;
    case errno.ENOMEM:
      return memoryAdvice(false, 'the buffers of the driver');
    default:
      return descriptorAdvice(error);
  }
}

/**
 * The error for a call that a driver refused.
 *
 * @param imports - whether it is about buffers that are not the driver's own
 */
export function videoError(error: number, request: Request, path: string, imports = false): SystemError {
  const why = reason(error, request, imports);
  return systemError(error, 'ioctl', path, why === undefined ? `${request} was refused.` : `${request}: ${why}`);
}

/**
 * What to do where a device could not be opened that should be a camera or the like.
 *
 * @param path - what it was called, where that should have been its path
 */
export function noDeviceAdvice(error: number, path = '/'): string | undefined {
  if (![errno.ENOENT, errno.ENODEV, errno.ENXIO].includes(-error)) return undefined;
  if (path.includes('/')) return NO_DEVICE;
  return `That is no path: what a device is called is asked for by open({ name: '${path}' }), and its driver by open({ driver: '${path}' }). videoDevices() lists what there is.`;
}
