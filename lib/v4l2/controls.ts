// SPDX-License-Identifier: MIT
/** The controls of a device: brightness, a test pattern, a bit rate. @module */
import { constants as osConstants } from 'node:os';
import { checkOptions } from '../arguments.js';
import { type Call, invalidType, invalidValue, outOfRange, systemError } from '../errors.js';
import { type Handle, native, type V4l2ControlEntry } from '../native.js';
import { videoError } from './advice.js';
import { Names, type Unnamed } from './names.js';

const { v4l2 } = native;
const { errno } = osConstants;

/** What a control takes (`enum v4l2_ctrl_type`); the rest are structs, which are bytes. */
export type ControlType =
  | 'integer'
  | 'boolean'
  | 'menu'
  | 'button'
  | 'integer64'
  | 'class'
  | 'string'
  | 'bitmask'
  | 'integer-menu'
  | 'u8'
  | 'u16'
  | 'u32'
  | Unnamed;

const types = new Names<ControlType>('type', {
  integer: v4l2.CTRL_TYPE_INTEGER,
  boolean: v4l2.CTRL_TYPE_BOOLEAN,
  menu: v4l2.CTRL_TYPE_MENU,
  button: v4l2.CTRL_TYPE_BUTTON,
  integer64: v4l2.CTRL_TYPE_INTEGER64,
  class: v4l2.CTRL_TYPE_CTRL_CLASS,
  string: v4l2.CTRL_TYPE_STRING,
  bitmask: v4l2.CTRL_TYPE_BITMASK,
  'integer-menu': v4l2.CTRL_TYPE_INTEGER_MENU,
  u8: v4l2.CTRL_TYPE_U8,
  u16: v4l2.CTRL_TYPE_U16,
  u32: v4l2.CTRL_TYPE_U32,
});

/**
 * Values by their types: `integer` and `bitmask` are numbers, `boolean` is one, `menu` is the name of an item (or its
 * index, to set it), `integer-menu` is the number that an item stands for, `integer64` is a bigint, `string` is one, and
 * the rest are bytes.
 */
export type ControlValue = number | boolean | bigint | string | Uint8Array;

/** An item of a menu: its name, or the number it stands for. */
export interface MenuItem {
  /** what the kernel knows it by */
  readonly index: number;
  /** of a `menu` */
  readonly name?: string;
  /** of an `integer-menu` */
  readonly value?: number;
}

/** One control (`struct v4l2_query_ext_ctrl`). */
export interface Control {
  /** V4L2_CID_… */
  readonly id: number;
  /** `name` in small letters with `_` between its words, as v4l2-ctl writes it: what this library knows it by, too */
  readonly key: string;
  /** as the driver calls it */
  readonly name: string;
  /** what its values are */
  readonly type: ControlType;
  /** least value; of a string its characters; a bigint only of `integer64` */
  readonly minimum: number | bigint;
  /** largest value; of a string its characters */
  readonly maximum: number | bigint;
  /** values, or the length of a string, are this far from each other */
  readonly step: number | bigint;
  /** what it is at first; undefined where it is no number */
  readonly default: ControlValue | undefined;
  /** items of a menu; else none */
  readonly menu: readonly MenuItem[];
  /** how many values an array has, in each of its dimensions, or may have where it is `dynamic`; none of a single value */
  readonly dimensions: readonly number[];
  /** It is an array of as many values as it is set to, up to `dimensions` (V4L2_CTRL_FLAG_DYNAMIC_ARRAY, Linux 6.0). */
  readonly dynamic: boolean;
  /** It cannot be set. */
  readonly readOnly: boolean;
  /** It cannot be asked for. */
  readonly writeOnly: boolean;
  /** Another control makes it mean nothing now. */
  readonly inactive: boolean;
  /** It cannot be set now, mostly while frames stream. */
  readonly grabbed: boolean;
  /** It changes by itself. */
  readonly volatile: boolean;
}

type Raw = number | bigint | string | Uint8Array;

/** What the library has to know besides. */
interface Known extends Control {
  /** bytes of its value now; 0 of a number */
  readonly payload: number;
  /** bytes of one of its values */
  readonly elementSize: number;
}

const number64 = (type: ControlType, value: bigint): number | bigint => (type === 'integer64' ? value : Number(value));

const keyOf = (name: string): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '_')
    .replace(/^_|_$/g, '');

/** The controls of an open device. @internal */
export class Controls {
  readonly #device: () => Handle;
  readonly #path: string;
  #ids: ReadonlyMap<string, number> | undefined;

  constructor(device: () => Handle, path: string) {
    this.#device = device;
    this.#path = path;
  }

  get #call(): Call {
    return { syscall: 'ioctl', path: this.#path };
  }

  list(): Control[] {
    const entries = this.#entries();
    const keys = new Map([...this.#remember(entries)].map(([key, id]) => [id, key]));
    return entries.map((entry) => {
      const {
        payload: _payload,
        elementSize: _elementSize,
        ...control
      } = this.#known(entry, keys.get(entry.id) ?? keyOf(entry.name));
      return control;
    });
  }

  #entries(): V4l2ControlEntry[] {
    const device = this.#device();
    const found: V4l2ControlEntry[] = [];
    const next = v4l2.CTRL_FLAG_NEXT_CTRL | v4l2.CTRL_FLAG_NEXT_COMPOUND;
    for (let id = 0; ; ) {
      const entry = native.v4l2QueryControl(device, (id | next) >>> 0);
      if (typeof entry === 'number') {
        if (entry === -errno.EINVAL || entry === -errno.ENOTTY) return found;
        throw videoError(entry, 'VIDIOC_QUERY_EXT_CTRL', this.#path);
      }
      // The list is in order; a driver that goes back would go round for ever.
      if (entry.id <= id) return found;
      id = entry.id;
      const hidden = (entry.flags & v4l2.CTRL_FLAG_DISABLED) !== 0 || entry.type === v4l2.CTRL_TYPE_CTRL_CLASS;
      if (!hidden) found.push(entry);
    }
  }

  /** The ids of the controls by their keys: they stay what they are, and to ask for all takes a call for each. */
  #keys(anew: boolean): ReadonlyMap<string, number> {
    return anew || this.#ids === undefined ? this.#remember(this.#entries()) : this.#ids;
  }

  #remember(entries: readonly V4l2ControlEntry[]): ReadonlyMap<string, number> {
    const ids = new Map<string, number>();
    for (const { id, name } of entries) {
      const key = keyOf(name);
      ids.set(ids.has(key) ? `${key}_${id.toString(16)}` : key, id);
    }
    this.#ids = ids;
    return ids;
  }

  #known(entry: V4l2ControlEntry, key: string): Known {
    const type = types.word(entry.type);
    const menu = this.#menu(entry, type);
    const has = (flag: number) => (entry.flags & flag) !== 0;
    const known = {
      id: entry.id,
      key,
      name: entry.name,
      type,
      minimum: number64(type, entry.minimum),
      maximum: number64(type, entry.maximum),
      step: number64(type, entry.step),
      menu,
      dimensions: entry.dimensions,
      dynamic: has(v4l2.CTRL_FLAG_DYNAMIC_ARRAY),
      readOnly: has(v4l2.CTRL_FLAG_READ_ONLY),
      writeOnly: has(v4l2.CTRL_FLAG_WRITE_ONLY),
      inactive: has(v4l2.CTRL_FLAG_INACTIVE),
      grabbed: has(v4l2.CTRL_FLAG_GRABBED),
      volatile: has(v4l2.CTRL_FLAG_VOLATILE),
      payload: has(v4l2.CTRL_FLAG_HAS_PAYLOAD) ? entry.elementSize * entry.elements : 0,
      elementSize: entry.elementSize,
    };
    const first = has(v4l2.CTRL_FLAG_HAS_PAYLOAD) || type === 'button' ? undefined : number64(type, entry.default);
    return { ...known, default: first === undefined ? undefined : meaning(known, first) };
  }

  #menu({ id, minimum, maximum }: V4l2ControlEntry, type: ControlType): MenuItem[] {
    const device = this.#device();
    if (type !== 'menu' && type !== 'integer-menu') return [];
    const items: MenuItem[] = [];
    for (let index = Math.max(0, Number(minimum)); index <= Number(maximum); index++) {
      const item = native.v4l2QueryMenu(device, id, index, type === 'integer-menu');
      // There are gaps.
      if (typeof item === 'string') items.push({ index, name: item });
      else if (typeof item === 'bigint') items.push({ index, value: Number(item) });
    }
    return items;
  }

  #find(which: unknown): Known {
    if (typeof which !== 'string' && typeof which !== 'number') {
      throw invalidType('control', 'a name or an id', which, this.#call);
    }
    const known = (keys: ReadonlyMap<string, number>) =>
      [...keys].find(([key, id]) => which === id || which === key || keyOf(String(which)) === key);
    const [key, id] = known(this.#keys(false)) ?? known(this.#keys(true)) ?? [];
    if (key === undefined || id === undefined) {
      const there = [...this.#keys(false).keys()].join(', ') || 'none';
      throw systemError(-errno.EINVAL, 'ioctl', this.#path, `It has no control '${which}': there are ${there}.`);
    }
    const entry = native.v4l2QueryControl(this.#device(), id);
    if (typeof entry === 'number') throw videoError(entry, 'VIDIOC_QUERY_EXT_CTRL', this.#path);
    return this.#known(entry, key);
  }

  /** The number of a control by its key, name or number. */
  idOf(which: unknown): number {
    return this.#find(which).id;
  }

  get(which: string | number): ControlValue {
    const control = this.#find(which);
    const type = types.code(control.type, this.#call);
    const found = native.v4l2GetControl(this.#device(), control.id, type, control.payload);
    if (typeof found === 'number') {
      if (found === -errno.EACCES) {
        throw systemError(found, 'ioctl', this.#path, `The control ${control.key} can only be set.`);
      }
      throw videoError(found, 'VIDIOC_G_EXT_CTRLS', this.#path);
    }
    const [value] = found;
    return typeof value === 'number' || typeof value === 'bigint' ? meaning(control, value) : value;
  }

  set(values: Readonly<Record<string, ControlValue>>): void {
    checkOptions(values, 'values', this.#call);
    const controls = Object.keys(values).map((which) => this.#find(/^\d+$/.test(which) ? Number(which) : which));
    if (controls.length === 0) return;
    const raw = Object.values(values).map((value, i) => this.#raw(controls[i] as Known, value));
    const failed: number[] = [];
    const ids = controls.map(({ id }) => id);
    const error = native.v4l2SetControls(this.#device(), ids, raw, failed, true);
    if (error === 0) return;
    const refused = controls[failed[0] ?? controls.length] ?? this.#blamed(error, controls, ids, raw);
    const name = refused?.key ?? controls.map(({ key }) => key).join(', ');
    const why = new Map([
      [errno.EACCES, `The control ${name} can only be read.`],
      [errno.EBUSY, `The control ${name} cannot be set now: it may have to wait until no frames stream.`],
      [errno.EINVAL, `The driver does not take that value of ${name}.`],
      [errno.ERANGE, `The driver does not take that value of ${name}.`],
    ]).get(-error);
    throw why === undefined
      ? videoError(error, 'VIDIOC_S_EXT_CTRLS', this.#path)
      : systemError(error, 'ioctl', this.#path, why);
  }

  /**
   * Which of several was refused, where the kernel says only that one was: it does so where it has not begun to set any
   * (try_set_ext_ctrls_common, drivers/media/v4l2-core/v4l2-ctrls-api.c).
   */
  #blamed(error: number, controls: readonly Known[], ids: readonly number[], raw: readonly Raw[]): Known | undefined {
    if (controls.length === 1) return controls[0];
    if (error === -errno.EACCES) return controls.find(({ readOnly }) => readOnly);
    if (error === -errno.EBUSY) return controls.find(({ grabbed }) => grabbed);
    const failed: number[] = [];
    const tried = native.v4l2SetControls(this.#device(), ids, raw, failed, false);
    return tried === error ? controls[failed[0] ?? controls.length] : undefined;
  }

  /** What the kernel takes. */
  #raw(control: Known, value: unknown): Raw {
    const { key, type, minimum, maximum, menu } = control;
    const call = this.#call;
    // arrays of whatever type, too
    if (control.payload > 0 && type !== 'string') return this.#bytes(control, value);
    const inRange = (wanted: number | bigint) => {
      if (wanted >= minimum && wanted <= maximum) return wanted;
      throw outOfRange(key, `from ${minimum} to ${maximum}`, wanted, call);
    };
    switch (type) {
      case 'button':
        return 1;
      case 'boolean':
        if (typeof value !== 'boolean') throw invalidType(key, 'of type boolean', value, call);
        return Number(value);
      case 'menu':
      case 'integer-menu': {
        const item =
          type === 'menu'
            ? menu.find(({ name, index }) => name === value || index === value)
            : menu.find((one) => one.value === value);
        if (item !== undefined) return item.index;
        const items = menu.map(({ name, value: number }) => name ?? String(number));
        throw invalidValue(key, `must be one of ${items.join(', ')}. Received '${String(value)}'`, call);
      }
      case 'integer64':
        if (typeof value !== 'bigint') throw invalidType(key, 'of type bigint', value, call);
        return inRange(value);
      case 'integer':
      case 'bitmask': {
        if (typeof value !== 'number') throw invalidType(key, 'of type number', value, call);
        if (!Number.isInteger(value)) throw outOfRange(key, 'a whole number', value, call);
        if (type === 'integer') return inRange(value);
        if (value >= 0 && value <= 0xffffffff) return value;
        throw outOfRange(key, 'bits from 0 to 0xffffffff', value, call);
      }
      case 'string': {
        if (typeof value !== 'string') throw invalidType(key, 'of type string', value, call);
        const bytes = Buffer.byteLength(value);
        if (value.includes('\0')) throw invalidValue(key, 'must not contain NUL', call);
        if (bytes >= minimum && bytes <= maximum) return value;
        throw outOfRange(key, `${minimum} to ${maximum} bytes of UTF-8`, `${bytes} bytes`, call);
      }
    }
    return this.#bytes(control, value);
  }

  #bytes({ key, payload, dynamic, elementSize, dimensions }: Known, value: unknown): Uint8Array {
    if (!(value instanceof Uint8Array)) throw invalidType(key, 'an instance of Uint8Array', value, this.#call);
    const bytes = value.byteLength;
    if (dynamic) {
      const most = elementSize * (dimensions[0] ?? 0);
      if (bytes > 0 && bytes <= most && bytes % elementSize === 0) return value;
      throw outOfRange(`${key}.length`, `a multiple of ${elementSize} bytes up to ${most}`, bytes, this.#call);
    }
    if (bytes === payload) return value;
    throw outOfRange(`${key}.length`, `${payload} bytes`, bytes, this.#call);
  }
}

/** What a number of the kernel's means. */
function meaning({ type, menu }: Pick<Control, 'type' | 'menu'>, value: number | bigint): ControlValue {
  if (type === 'boolean') return value !== 0;
  if (type !== 'menu' && type !== 'integer-menu') return value;
  const item = menu.find(({ index }) => index === Number(value));
  return item?.name ?? item?.value ?? value;
}
