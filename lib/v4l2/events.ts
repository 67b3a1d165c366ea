// SPDX-License-Identifier: MIT
/** What devices tell by themselves. @module */
import { constants as osConstants } from 'node:os';
import { checkInteger, checkOptionNames, checkOptions } from '../arguments.js';
import { invalidType, invalidValue } from '../errors.js';
import { checkWaitOptions, type WaitOptions } from '../fences.js';
import { native } from '../native.js';
import { videoError } from './advice.js';
import type { VideoDevice } from './device.js';
import { Ready } from './readiness.js';

const { v4l2 } = native;
const { errno } = osConstants;

const codes = {
  control: v4l2.EVENT_CTRL,
  'end-of-stream': v4l2.EVENT_EOS,
  'source-change': v4l2.EVENT_SOURCE_CHANGE,
  'frame-sync': v4l2.EVENT_FRAME_SYNC,
} as const;

/** Events that can be asked for. */
export type EventType = keyof typeof codes;

/** Options of {@link VideoDevice.events}. */
export interface EventOptions extends WaitOptions {
  /** the id of the control that `control` is about */
  control?: number;
}

/** An event (`struct v4l2_event`). */
export type VideoEvent = {
  /** counts all events of the device */
  readonly sequence: number;
  /** when it happened: nanoseconds, as of `process.hrtime.bigint()` */
  readonly timestamp: bigint;
} & (
  | {
      readonly type: 'control';
      /** the id of the control */
      readonly control: number;
      /** what it is set to, as the kernel has it; 0 of what is no number */
      readonly value: number;
      /** what has changed of it */
      readonly changes: readonly ('value' | 'flags' | 'range')[];
    }
  | { readonly type: 'end-of-stream' }
  | {
      readonly type: 'source-change';
      /** whether pictures have another size now: end the stream, ask for the format, and begin another */
      readonly resolution: boolean;
    }
  | { readonly type: 'frame-sync'; readonly frame: number }
);

const MICROSECOND = 1000n;

/** The next event, or undefined where there is none yet. @internal */
export function nextEvent(device: VideoDevice): VideoEvent | undefined {
  for (;;) {
    const found = native.v4l2DequeueEvent(device.owned.get('ioctl'));
    if (typeof found === 'number') {
      if (found === -errno.ENOENT) return undefined;
      throw videoError(found, 'VIDIOC_DQEVENT', device.path);
    }
    const { type, id, sequence, changes, value } = found;
    const common = { sequence, timestamp: BigInt(found.timestamp) * MICROSECOND };
    switch (type) {
      case v4l2.EVENT_CTRL: {
        const bits = [
          ['value', v4l2.EVENT_CTRL_CH_VALUE],
          ['flags', v4l2.EVENT_CTRL_CH_FLAGS],
          ['range', v4l2.EVENT_CTRL_CH_RANGE],
        ] as const;
        const changed = bits.filter(([, bit]) => (changes & bit) !== 0).map(([word]) => word);
        return { ...common, type: 'control', control: id, value, changes: changed };
      }
      case v4l2.EVENT_EOS:
        return { ...common, type: 'end-of-stream' };
      case v4l2.EVENT_SOURCE_CHANGE:
        return { ...common, type: 'source-change', resolution: (changes & v4l2.EVENT_SRC_CH_RESOLUTION) !== 0 };
      case v4l2.EVENT_FRAME_SYNC:
        return { ...common, type: 'frame-sync', frame: value };
    }
  }
}

/** Asks for an event. @internal */
export function subscribe(device: VideoDevice, type: EventType, id = 0): void {
  // A script that changes a control wants to hear of that, too.
  const flags = type === 'control' ? v4l2.EVENT_SUB_FL_ALLOW_FEEDBACK : 0;
  const error = native.v4l2Subscribe(device.owned.get('ioctl'), codes[type], id, flags, true);
  if (error < 0) throw videoError(error, 'VIDIOC_SUBSCRIBE_EVENT', device.path);
}

/** Asks for it no longer. A device that is gone has forgotten it. @internal */
export function unsubscribe(device: VideoDevice, type: EventType, id = 0): void {
  if (!device.closed) native.v4l2Subscribe(device.owned.get('ioctl'), codes[type], id, 0, false);
}

/** @internal */
export function videoEvents(
  device: VideoDevice,
  types: readonly EventType[],
  options: EventOptions,
): AsyncIterableIterator<VideoEvent> {
  const call = { syscall: 'ioctl', path: device.path };
  if (!Array.isArray(types)) throw invalidType('types', 'an array', types, call);
  if (types.length === 0) throw invalidValue('types', `names none of ${Object.keys(codes).join(', ')}`, call);
  for (const type of types) {
    if (typeof type === 'string' && Object.hasOwn(codes, type)) continue;
    throw invalidValue('types', `are of ${Object.keys(codes).join(', ')}. Received '${String(type)}'`, call);
  }
  checkOptions(options, 'options', call);
  checkOptionNames(options, ['control', 'signal'] satisfies (keyof EventOptions)[], call);
  const { control, ...wait } = options;
  const signal = checkWaitOptions(wait, 'ioctl');
  if (control !== undefined) checkInteger(control, 'control', 1, 0xffffffff, call);
  if (!types.includes('control') && control !== undefined) {
    throw invalidValue('options', "has a 'control', and no event is about one: ask for 'control'", call);
  }
  if (types.includes('control') && control === undefined) {
    throw invalidValue('options', "wants the id of a 'control' to hear of: controls() lists them", call);
  }
  return new EventLoop(device, types, control ?? 0, signal);
}

/** The events of one loop. A generator would not end while it waits, nor before it has begun. */
class EventLoop implements AsyncIterableIterator<VideoEvent, undefined, undefined> {
  readonly #device: VideoDevice;
  readonly #signal: AbortSignal | undefined;
  /** what was asked for, with its id; undefined after the end */
  #asked: [EventType, number][] | undefined = [];

  constructor(device: VideoDevice, types: readonly EventType[], control: number, signal: AbortSignal | undefined) {
    this.#device = device;
    this.#signal = signal;
    try {
      // Before the first is waited for: none is to be missed.
      for (const type of types) {
        const id = type === 'control' ? control : 0;
        subscribe(device, type, id);
        this.#asked?.push([type, id]);
      }
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  async next(): Promise<IteratorResult<VideoEvent, undefined>> {
    try {
      while (this.#asked !== undefined) {
        const value = nextEvent(this.#device);
        if (value !== undefined) return { value, done: false };
        await this.#device.readiness.wait(Ready.event, this.#signal);
      }
      return { value: undefined, done: true };
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  async return(): Promise<IteratorResult<VideoEvent, undefined>> {
    this.#end();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #end(): void {
    const asked = this.#asked;
    if (asked === undefined) return;
    this.#asked = undefined;
    for (const [type, id] of asked) unsubscribe(this.#device, type, id);
    this.#device.readiness.wake();
  }
}
