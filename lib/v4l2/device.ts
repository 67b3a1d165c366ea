// SPDX-License-Identifier: MIT
/** What every V4L2 device has, whatever it does with frames. @module */
import { constants as osConstants } from 'node:os';
import { openAdvice } from '../advice.js';
import { checkInteger, checkPath } from '../arguments.js';
import { systemError } from '../errors.js';
import { OwnedHandle } from '../handle.js';
import { describe, type Handle, native, type V4l2Capability } from '../native.js';
import { noDeviceAdvice, videoError } from './advice.js';
import { type Control, Controls, type ControlValue } from './controls.js';
import { DeviceEvents, type EventOptions, type EventType, type VideoEvent, videoEvents } from './events.js';
import {
  type Format,
  type FormatRequest,
  type Fraction,
  type FrameInterval,
  type FrameSize,
  MAX_ENTRIES,
  type PixelFormatInfo,
  Port,
} from './formats.js';
import { Readiness } from './readiness.js';

const { constants, v4l2 } = native;
const { errno } = osConstants;

/** An open node and what it says of itself. @internal */
export interface Opened {
  handle: Handle;
  path: string;
  capability: V4l2Capability;
}

/** Opens a node, with advice where that fails, or where it is no V4L2 device. @internal */
export function openNode(path: string): Opened {
  checkPath(path, 'path', 'open');
  const handle = native.open(path, constants.O_RDWR);
  if (handle < 0) throw systemError(handle, 'open', path, noDeviceAdvice(handle, path) ?? openAdvice(handle, path));
  const description = describe(handle);
  const device = typeof description !== 'number' && description.deviceMajor >= 0;
  const capability = device ? native.v4l2Capability(handle) : -errno.ENOTTY;
  if (typeof capability !== 'number') return { handle, path, capability };
  native.close(handle);
  throw capability === -errno.ENOTTY
    ? systemError(capability, 'ioctl', path, 'It is no V4L2 device: videoDevices() lists what this machine has.')
    : videoError(capability, 'VIDIOC_QUERYCAP', path);
}

/** An open V4L2 device (`/dev/video0`). */
export abstract class VideoDevice implements Disposable {
  /** its node */
  readonly path: string;
  /** of the kernel, such as `'uvcvideo'` */
  readonly driver: string;
  /** as it calls itself */
  readonly name: string;
  /** where it is connected, such as `'usb-0000:00:14.0-1'` */
  readonly bus: string;
  /** @internal */
  readonly owned: OwnedHandle;
  /** @internal */
  readonly readiness: Readiness;
  /** @internal */
  readonly told = new DeviceEvents(this);
  readonly #controls: Controls;

  /** @internal */
  protected constructor({ handle, path, capability }: Opened, what: string) {
    this.path = path;
    this.driver = capability.driver;
    this.name = capability.card;
    this.bus = capability.bus;
    this.owned = new OwnedHandle(this, handle, `${what} ${path}`, path, true);
    this.readiness = new Readiness(this.owned, path);
    this.#controls = new Controls(() => this.owned.get('ioctl'), path);
  }

  /** Whether {@link VideoDevice.close} was called. */
  get closed(): boolean {
    return this.owned.closed;
  }

  /**
   * Its controls (VIDIOC_QUERY_EXT_CTRL), in the kernel's order.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  controls(): Control[] {
    return this.#controls.list();
  }

  /**
   * What a control is set to (VIDIOC_G_EXT_CTRLS).
   *
   * @param control - its key, name or id
   * @throws SystemError EINVAL: there is no such control, the message says which there are; EACCES: it can only be set
   * @throws TypeError ERR_INVALID_ARG_TYPE; DmaBufError ERR_DMABUF_CLOSED
   */
  getControl(control: string | number): ControlValue {
    return this.#controls.get(control);
  }

  /** @internal */
  controlId(control: string | number): number {
    return this.#controls.idOf(control);
  }

  /**
   * Sets controls (VIDIOC_S_EXT_CTRLS): all of them, or none where one is refused. A button is pressed by any value.
   *
   * @param values - by the keys, names or ids of the controls
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE: no such value
   * @throws SystemError EINVAL: there is no such control; EACCES: it can only be read; EBUSY: not while frames stream
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  setControls(values: Readonly<Record<string, ControlValue>>): void {
    this.#controls.set(values);
  }

  /**
   * What the device tells by itself (VIDIOC_SUBSCRIBE_EVENT), as it happens, until the loop is left. Each of several
   * loops hears of what it has asked for; of one that does not ask for the next, the last 64 wait.
   *
   * The kernel keeps one event of each type, and of each control, until it is fetched: changes that follow each other
   * while JavaScript runs come as one, with the newest value and all that has changed; {@link VideoEvent} `missed` counts
   * the others. They are fetched each time the loop of this thread turns, also while nobody asks for the next.
   *
   * @throws SystemError EINVAL: it has no such events; ENODEV: it is gone
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; the reason of `signal`
   */
  events(types: readonly EventType[], options: EventOptions = {}): AsyncIterableIterator<VideoEvent> {
    return videoEvents(this, types, options);
  }

  /** Ends its streams, and closes it. May be called twice. */
  close(): void {
    if (this.closed) return;
    this.endStreams();
    this.owned.close();
    this.readiness.wake();
  }

  /** The same as {@link VideoDevice.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal */
  protected abstract endStreams(): void;
}

/** A connector of a device that has several. */
export interface VideoInput {
  /** what the kernel knows it by */
  readonly index: number;
  /** as the driver calls it */
  readonly name: string;
  /** whether something is at the other end, as far as the driver knows; true of an output */
  readonly signal: boolean;
}

/** A device whose frames go one way: {@link Capture} and {@link Output}. */
export abstract class OneWayDevice extends VideoDevice {
  /** @internal */
  protected readonly port: Port;
  readonly #output: boolean;

  /** @internal */
  protected constructor(opened: Opened, what: string, type: number) {
    super(opened, what);
    this.port = new Port(() => this.owned.get('ioctl'), type, opened.path);
    this.#output = type === v4l2.BUF_TYPE_VIDEO_OUTPUT || type === v4l2.BUF_TYPE_VIDEO_OUTPUT_MPLANE;
  }

  /** Whether its frames may have several buffers, one for each plane. */
  get multiplanar(): boolean {
    return this.port.multiplanar;
  }

  /**
   * The pixel formats it has (VIDIOC_ENUM_FMT).
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  formats(): PixelFormatInfo[] {
    return this.port.formats();
  }

  /**
   * The sizes it has for a pixel format (VIDIOC_ENUM_FRAMESIZES); none where the driver does not say, or there is no
   * such format.
   *
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE; DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  sizes(pixelFormat: string): FrameSize[] {
    return this.port.sizes(pixelFormat);
  }

  /**
   * The times from one frame to the next it has for a size (VIDIOC_ENUM_FRAMEINTERVALS); none where the driver does not
   * say.
   *
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, RangeError ERR_OUT_OF_RANGE
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  intervals(pixelFormat: string, width: number, height: number): FrameInterval[] {
    return this.port.intervals(pixelFormat, width, height);
  }

  /**
   * What its frames look like (VIDIOC_G_FMT).
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  get format(): Format {
    return this.port.format;
  }

  /**
   * Changes the format (VIDIOC_S_FMT), and answers what it is now: a driver takes the nearest size it has, and what it
   * has of the rest. A pixel format it does not have is an error.
   *
   * @throws SystemError EINVAL: no such pixel format, the message says which there are; EBUSY: not while there are
   *   buffers for another
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE, RangeError ERR_OUT_OF_RANGE
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  setFormat(format: FormatRequest): Format {
    return this.port.setFormat(format);
  }

  /**
   * What {@link OneWayDevice.setFormat} would answer, and no change (VIDIOC_TRY_FMT).
   *
   * @throws what that does
   */
  tryFormat(format: FormatRequest): Format {
    return this.port.tryFormat(format);
  }

  /**
   * Seconds from one frame to the next (VIDIOC_G_PARM).
   *
   * @throws SystemError ENOTTY: the driver does not say; DmaBufError ERR_DMABUF_CLOSED
   */
  get interval(): Fraction {
    return this.port.interval();
  }

  /**
   * Changes them to the nearest it has (VIDIOC_S_PARM), and answers what they are now.
   *
   * @throws SystemError ENOTTY: it has one rate; EBUSY: not while frames stream
   * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE; DmaBufError ERR_DMABUF_CLOSED
   */
  setInterval(interval: Fraction): Fraction {
    return this.port.interval(interval);
  }

  /**
   * Its connectors (VIDIOC_ENUMINPUT, VIDIOC_ENUMOUTPUT); none where it has no choice.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED; SystemError
   */
  inputs(): VideoInput[] {
    const found: VideoInput[] = [];
    for (let index = 0; index < MAX_ENTRIES; index++) {
      const entry = native.v4l2EnumInput(this.owned.get('ioctl'), this.#output, index);
      if (typeof entry !== 'number') {
        const { name, status } = entry;
        found.push({ index, name, signal: (status & (v4l2.IN_ST_NO_SIGNAL | v4l2.IN_ST_NO_POWER)) === 0 });
      } else if (entry === -errno.EINVAL || entry === -errno.ENOTTY) return found;
      else throw videoError(entry, this.#output ? 'VIDIOC_ENUMOUTPUT' : 'VIDIOC_ENUMINPUT', this.path);
    }
    return found;
  }

  /**
   * The index of the connector in use (VIDIOC_G_INPUT, VIDIOC_G_OUTPUT).
   *
   * @throws SystemError ENOTTY: it has no choice; DmaBufError ERR_DMABUF_CLOSED
   */
  get input(): number {
    return this.#select(-1);
  }

  /**
   * Uses another connector (VIDIOC_S_INPUT, VIDIOC_S_OUTPUT): format and controls may be others then.
   *
   * @throws SystemError EINVAL: there is none; EBUSY: not while there are buffers; RangeError ERR_OUT_OF_RANGE
   * @throws TypeError ERR_INVALID_ARG_TYPE; DmaBufError ERR_DMABUF_CLOSED
   */
  setInput(index: number): void {
    checkInteger(index, 'index', 0, 0xff, { syscall: 'ioctl', path: this.path });
    this.#select(index);
  }

  #select(index: number): number {
    const found = native.v4l2Input(this.owned.get('ioctl'), this.#output, index);
    if (found >= 0) return found;
    throw videoError(found, `VIDIOC_${index < 0 ? 'G' : 'S'}_${this.#output ? 'OUTPUT' : 'INPUT'}`, this.path);
  }
}
