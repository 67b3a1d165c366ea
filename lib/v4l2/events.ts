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
  /** the control that `control` is about: its key, name or id */
  control?: string | number;
}

/** An event (`struct v4l2_event`). */
export type VideoEvent = {
  /** counts the events that were asked for of this open device, those that `missed` is about, too */
  readonly sequence: number;
  /**
   * events between the one before and this that nobody has seen: the kernel has made one of several, or had no room. They
   * may be of any type that is asked for of this open device.
   */
  readonly missed: number;
  /** when it happened: nanoseconds, as of `process.hrtime.bigint()` */
  readonly timestamp: bigint;
} & (
  | {
      readonly type: 'control';
      /** the id of the control */
      readonly control: number;
      /** what it is set to, as the kernel has it: a bigint of `integer64`, 0 of what is no number */
      readonly value: number | bigint;
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

/**
 * The next event of the kernel's list, or undefined where there is none yet.
 *
 * @param last - sequence of the one before, -1 before the first
 */
function nextEvent(device: VideoDevice, last: number): VideoEvent | undefined {
  for (;;) {
    const found = native.v4l2DequeueEvent(device.owned.get('ioctl'));
    if (typeof found === 'number') {
      if (found === -errno.ENOENT) return undefined;
      throw videoError(found, 'VIDIOC_DQEVENT', device.path);
    }
    const { type, id, sequence, changes, value } = found;
    // It is a number of 32 bits.
    const common = { sequence, missed: (sequence - last - 1) >>> 0, timestamp: found.timestamp };
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
        return { ...common, type: 'frame-sync', frame: Number(value) };
    }
  }
}

/** Events that wait for one listener at most: of a loop that does not ask, the oldest are lost. */
const MAX_WAITING = 64;

/** One that hears of some events of a device. @internal */
export class Listener {
  readonly #events: DeviceEvents;
  /** what it has asked for, with the id of a control */
  readonly asked: readonly (readonly [EventType, number])[];
  /** whether it is told of what comes while it does not ask */
  readonly keeps: boolean;
  /** what has happened and it was not told yet */
  readonly waiting: VideoEvent[] = [];
  /** events that nobody saw, or that this one was not told for want of room */
  missed = 0;

  constructor(events: DeviceEvents, asked: readonly (readonly [EventType, number])[], keeps: boolean) {
    this.#events = events;
    this.asked = asked;
    this.keeps = keeps;
  }

  /** Has it told of an event. */
  tell(event: VideoEvent): void {
    this.waiting.push(event);
    if (this.waiting.length > MAX_WAITING) this.missed += 1 + (this.waiting.shift()?.missed ?? 0);
  }

  /** The next event, or undefined where there is none yet. */
  next(): VideoEvent | undefined {
    this.#events.hear(this);
    const event = this.waiting.shift();
    if (event === undefined || this.missed === 0) return event;
    const missed = event.missed + this.missed;
    this.missed = 0;
    return { ...event, missed };
  }

  /** Asks for them no longer. */
  end(): void {
    this.#events.leave(this);
  }
}

/**
 * What one open device tells, to all who listen. The kernel has a list for each open file and hands an event out once;
 * it asks for none twice, and ends an event for all (v4l2_event_subscribe, drivers/media/v4l2-core/v4l2-event.c).
 *
 * @internal
 */
export class DeviceEvents {
  readonly #device: VideoDevice;
  readonly #listeners = new Set<Listener>();
  /** sequence of the last event; the first has 0 */
  #last = -1;

  constructor(device: VideoDevice) {
    this.#device = device;
  }

  /**
   * Begins to hear of events: none that happens from here on is missed.
   *
   * @param keeps - whether they are fetched each time the loop of this thread turns
   */
  listen(asked: readonly (readonly [EventType, number])[], keeps: boolean): Listener {
    const listener = new Listener(this, asked, keeps);
    const begun: (readonly [EventType, number])[] = [];
    try {
      for (const one of asked) {
        if (!this.#isAsked(one)) subscribe(this.#device, ...one);
        begun.push(one);
      }
    } catch (error) {
      for (const one of begun) if (!this.#isAsked(one)) unsubscribe(this.#device, ...one);
      throw error;
    }
    this.#listeners.add(listener);
    this.#keep();
    return listener;
  }

  leave(listener: Listener): void {
    if (!this.#listeners.delete(listener)) return;
    // What is unsubscribed takes what waits of it along, and that is not missed.
    this.#fetch();
    this.#keep();
    for (const one of listener.asked) if (!this.#isAsked(one)) unsubscribe(this.#device, ...one);
  }

  #isAsked([type, id]: readonly [EventType, number]): boolean {
    return [...this.#listeners].some(({ asked }) => asked.some((one) => one[0] === type && one[1] === id));
  }

  #keep(): void {
    const keeps = [...this.#listeners].some((listener) => listener.keeps);
    this.#device.readiness.onEvents(keeps ? () => this.#fetch() : undefined);
  }

  /** Takes all there are while nobody asks. */
  #fetch(): void {
    try {
      if (!this.#device.closed) this.hear();
    } catch {
      // Who asks is told; nobody is to be called for it for ever.
      this.#device.readiness.onEvents(undefined);
    }
  }

  /** Takes all there are, for whom they are about. */
  hear(asking?: Listener): void {
    let others = false;
    for (;;) {
      const event = nextEvent(this.#device, this.#last);
      if (event === undefined) break;
      const { type } = event;
      this.#last = event.sequence;
      const id = event.type === 'control' ? event.control : 0;
      for (const listener of this.#listeners) {
        if (!listener.asked.some((one) => one[0] === type && one[1] === id)) continue;
        listener.tell(event);
        if (listener !== asking) others = true;
      }
    }
    // They wait for the kernel's list, which is empty now.
    if (others) this.#device.readiness.wake();
  }
}

/** Asks for an event. */
function subscribe(device: VideoDevice, type: EventType, id: number): void {
  // A script that changes a control wants to hear of that, too.
  const flags = type === 'control' ? v4l2.EVENT_SUB_FL_ALLOW_FEEDBACK : 0;
  const error = native.v4l2Subscribe(device.owned.get('ioctl'), codes[type], id, flags, true);
  if (error < 0) throw videoError(error, 'VIDIOC_SUBSCRIBE_EVENT', device.path);
}

/** Asks for it no longer. A device that is gone has forgotten it. */
function unsubscribe(device: VideoDevice, type: EventType, id: number): void {
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
  if (typeof control === 'number') checkInteger(control, 'control', 1, 0xffffffff, call);
  else if (control !== undefined && typeof control !== 'string') {
    throw invalidType('control', 'a name or an id', control, call);
  }
  if (!types.includes('control') && control !== undefined) {
    throw invalidValue('options', "has a 'control', and no event is about one: ask for 'control'", call);
  }
  if (types.includes('control') && control === undefined) {
    throw invalidValue('options', "wants a 'control' to hear of: controls() lists them", call);
  }
  const id = typeof control === 'string' ? device.controlId(control) : (control ?? 0);
  return new EventLoop(device, types, id, signal);
}

/** The events of one loop. A generator would not end while it waits, nor before it has begun. */
class EventLoop implements AsyncIterableIterator<VideoEvent, undefined, undefined> {
  readonly #device: VideoDevice;
  readonly #signal: AbortSignal | undefined;
  /** undefined after the end */
  #listener: Listener | undefined;

  constructor(device: VideoDevice, types: readonly EventType[], control: number, signal: AbortSignal | undefined) {
    this.#device = device;
    this.#signal = signal;
    // Before the first is waited for: none is to be missed.
    this.#listener = device.told.listen(
      types.map((type) => [type, type === 'control' ? control : 0]),
      true,
    );
  }

  async next(): Promise<IteratorResult<VideoEvent, undefined>> {
    try {
      while (this.#listener !== undefined) {
        const value = this.#listener.next();
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
    this.#listener?.end();
    this.#listener = undefined;
    this.#device.readiness.wake();
  }
}
