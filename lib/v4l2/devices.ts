// SPDX-License-Identifier: MIT
/** Which devices there are, by what they can do. @module */
import { readdirSync, readFileSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { checkOptionNames } from '../arguments.js';
import { invalidType, type SystemError, systemError } from '../errors.js';
import { native } from '../native.js';
import { noDeviceAdvice } from './advice.js';
import { type Opened, openNode } from './device.js';

const { v4l2 } = native;
const { errno } = osConstants;
const SYSFS = '/sys/class/video4linux';

/**
 * What a device does with frames: `'m2m'` makes frames of frames, and `'both'` has frames come from it and go to it, each
 * for itself, as v4l2loopback does.
 */
export type VideoDeviceKind = 'capture' | 'output' | 'both' | 'm2m' | 'other';

/** One V4L2 device of this machine. */
export interface VideoDeviceInfo {
  /** its node, such as `'/dev/video0'` */
  readonly path: string;
  /** as sysfs calls it */
  readonly label: string;
  /** what it does with frames */
  readonly kind: VideoDeviceKind;
  /** of the kernel, such as `'uvcvideo'`; `''` where it cannot be opened */
  readonly driver: string;
  /** as it calls itself */
  readonly name: string;
  /** where it is connected */
  readonly bus: string;
  /** whether a frame may have several buffers */
  readonly multiplanar: boolean;
  /** whether it is one of a graph that has to be set up first, which this library does not do (V4L2_CAP_IO_MC) */
  readonly mediaController: boolean;
  /** why it cannot be opened, where that is so; its kind is `'other'` then */
  readonly error?: SystemError;
}

/**
 * What to open: the first device that has all of what is said. Where nothing is said, those are left out that are parts of
 * a graph ({@link VideoDeviceInfo.mediaController}).
 */
export interface VideoDeviceChoice {
  /** of the kernel */
  driver?: string;
  /** as it calls itself: the whole name */
  name?: string;
  /** where it is connected */
  bus?: string;
  /** as sysfs calls it: how it begins */
  label?: string;
}

const choiceNames = ['driver', 'name', 'bus', 'label'] satisfies (keyof VideoDeviceChoice)[];

/** @internal */
export function kindOf(capabilities: number): VideoDeviceKind {
  const has = (bits: number) => (capabilities & bits) !== 0;
  if (!has(v4l2.CAP_STREAMING)) return 'other';
  const captures = has(v4l2.CAP_VIDEO_CAPTURE | v4l2.CAP_VIDEO_CAPTURE_MPLANE);
  const puts = has(v4l2.CAP_VIDEO_OUTPUT | v4l2.CAP_VIDEO_OUTPUT_MPLANE);
  if (has(v4l2.CAP_VIDEO_M2M | v4l2.CAP_VIDEO_M2M_MPLANE)) return 'm2m';
  if (captures && puts) return 'both';
  if (captures) return 'capture';
  return puts ? 'output' : 'other';
}

const planes = v4l2.CAP_VIDEO_CAPTURE_MPLANE | v4l2.CAP_VIDEO_OUTPUT_MPLANE | v4l2.CAP_VIDEO_M2M_MPLANE;

function infoOf({ path, capability }: Opened, label: string): VideoDeviceInfo {
  const { capabilities, driver, card, bus } = capability;
  return {
    path,
    label,
    kind: kindOf(capabilities),
    driver,
    name: card,
    bus,
    multiplanar: (capabilities & planes) !== 0,
    mediaController: (capabilities & v4l2.CAP_IO_MC) !== 0,
  };
}

function labelOf(node: string): string {
  try {
    return readFileSync(`${SYSFS}/${node}/name`, 'utf8').trim();
  } catch {
    return '';
  }
}

function nodes(): string[] {
  try {
    // By their numbers: a collator that knows those costs more than all devices.
    return readdirSync(SYSFS)
      .flatMap((name) => /^video(\d+)$/.exec(name)?.[1] ?? [])
      .sort((one, other) => Number(one) - Number(other))
      .map((number) => `video${number}`);
  } catch {
    return [];
  }
}

/**
 * The video devices of this machine (`/sys/class/video4linux`), each opened for a moment to ask what it can do. One that
 * cannot be opened has an `error` that says why.
 */
export function videoDevices(): VideoDeviceInfo[] {
  return nodes().map((node) => {
    const path = `/dev/${node}`;
    const label = labelOf(node);
    try {
      const opened = openNode(path);
      native.close(opened.handle);
      return infoOf(opened, label);
    } catch (error) {
      if (!(error instanceof Error && 'errno' in error)) throw error;
      const nothing = { driver: '', name: label, bus: '', multiplanar: false, mediaController: false };
      return { path, label, kind: 'other', ...nothing, error: error as SystemError };
    }
  });
}

const articles: Readonly<Record<VideoDeviceKind, string>> = {
  capture: 'that frames come from',
  output: 'that frames go to',
  both: 'that frames come from and go to',
  m2m: 'that makes frames of frames',
  other: 'for video',
};

const NO_CODEC =
  'Where a kernel has them, `modprobe vicodec` and `modprobe vim2m` as root make some of software; videoDevices() lists what there is.';

/** What else a device is asked for, by its path, and the words for that. @internal */
export interface Need {
  says: string;
  fits(path: string): boolean;
}

const serves = (found: VideoDeviceKind, kind: VideoDeviceKind): boolean =>
  found === kind || (found === 'both' && (kind === 'capture' || kind === 'output'));

/** Whether a device is what was asked for, of a kind. @internal */
export function fits(info: VideoDeviceInfo, which: VideoDeviceChoice, kind: VideoDeviceKind): boolean {
  const { driver, name, bus, label } = which;
  const named = choiceNames.some((word) => which[word] !== undefined);
  return (
    serves(info.kind, kind) &&
    (named || !info.mediaController || kind === 'm2m') &&
    (driver === undefined || info.driver === driver) &&
    (name === undefined || info.name === name) &&
    (bus === undefined || info.bus === bus) &&
    (label === undefined || info.label.startsWith(label))
  );
}

/** Opens what was asked for, of a kind. @internal */
export function openChoice(which: string | VideoDeviceChoice, kind: VideoDeviceKind, need?: Need): Opened {
  if (typeof which === 'string') {
    const opened = openNode(which);
    const found = kindOf(opened.capability.capabilities);
    if (serves(found, kind)) return opened;
    native.close(opened.handle);
    const advice = `It is a device ${articles[found]}, not one ${articles[kind]}: videoDevices() lists those there are.`;
    throw systemError(-errno.ENOTSUP, 'ioctl', which, advice);
  }
  const call = { syscall: 'open' };
  if (typeof which !== 'object' || which === null) {
    throw invalidType('which', 'a path, or an object that says what it is called', which, call);
  }
  checkOptionNames(which, choiceNames, call);
  for (const name of choiceNames) {
    const value = which[name];
    if (value !== undefined && typeof value !== 'string') throw invalidType(name, 'of type string', value, call);
  }
  const there = videoDevices();
  const fit = there.find((info) => fits(info, which, kind) && (need === undefined || need.fits(info.path)));
  if (fit !== undefined) return openNode(fit.path);
  const errors = there.flatMap(({ error }) => (error === undefined ? [] : [error.message]));
  const found = there
    .filter((info) => serves(info.kind, kind))
    .map(({ path, name, mediaController }) => `${path} (${name}${mediaController ? ', a part of a graph' : ''})`);
  const wanted = Object.entries(which).flatMap(([name, value]) => (value === undefined ? [] : [`${name} '${value}'`]));
  const makes = need === undefined ? '' : ` ${need.says}`;
  const no = `There is no device ${articles[kind]}${makes}${wanted.length > 0 ? ` with ${wanted.join(' and ')}` : ''}`;
  const others =
    found.length > 0
      ? `: there are ${found.join(', ')}.`
      : `. ${kind === 'm2m' ? NO_CODEC : noDeviceAdvice(-errno.ENODEV)}`;
  const locked = errors.length > 0 ? ` These cannot be opened: ${errors.join(' ')}` : '';
  throw systemError(-errno.ENODEV, 'open', undefined, `${no}${others}${locked}`);
}
