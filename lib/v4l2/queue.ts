// SPDX-License-Identifier: MIT
/**
 * The buffers of one direction of a device: who has which, and the calls that pass them. What is built on it, a capture,
 * an output or both ends of a codec, decides when.
 *
 * @module
 */
import { constants as osConstants } from 'node:os';
import { checkInteger, checkOptionNames, checkOptions } from '../arguments.js';
import { DmaBuf, ownDmaBuf } from '../dmabuf.js';
import { invalidType, invalidValue, outOfRange, systemError } from '../errors.js';
import type { Heap } from '../heap/heap.js';
import { BufferField, native, PlaneField } from '../native.js';
import { videoError } from './advice.js';
import type { VideoDevice } from './device.js';
import { type FieldOrder, type Format, fieldCode, type PlaneFormat, Port } from './formats.js';
import { layoutOf } from './layout.js';
import { Stage } from './report.js';

const { v4l2 } = native;
const { errno } = osConstants;

/** Nanoseconds that fit into the struct timeval of 32-bit systems. */
const MAX_TIMESTAMP = 2n ** 31n * 1_000_000_000n - 1n;

/** Filled anew for each call. */
const numbers = new Float64Array(BufferField.all);
const number = (index: number): number => numbers[index] as number;

/** One buffer of a queue. @internal */
export interface Slot {
  /** what the kernel knows it by */
  readonly index: number;
  /** its memory, one for each plane */
  buffers: readonly DmaBuf[];
  /** who has it: `'idle'` is the queue itself, `'driver'` has been given it, `'program'` has got it back */
  holder: 'idle' | 'driver' | 'program';
}

/** What of a plane is in use. */
export interface PlaneUse {
  /** bytes, with what is in front of the picture; default: all */
  bytesUsed?: number;
  /** bytes in front of the picture; default 0, which it is where {@link OneWayDevice.multiplanar} is false */
  dataOffset?: number;
}

/** What goes with a buffer to a driver that reads it. */
export interface BufferInfo {
  /** what of its planes is in use; default: all */
  planes?: readonly PlaneUse[];
  /** nanoseconds, less than 2^31 seconds; drivers that make frames of frames hand it on (V4L2_BUF_FLAG_TIMESTAMP_COPY) */
  timestamp?: bigint;
  /** default `'none'`, or what the format has */
  field?: FieldOrder;
}

/** What a driver says of a buffer it gives back. @internal */
export interface Done {
  slot: Slot;
  /** V4L2_BUF_FLAG_… */
  flags: number;
  field: number;
  sequence: number;
  /** microseconds */
  timestamp: number;
  planes: readonly { bytesUsed: number; dataOffset: number }[];
}

/** Where the memory of a queue is from: of a heap, or of the driver where there is none. @internal */
export interface AllocateOptions {
  count: number;
  heap?: Heap | undefined;
}

/** @internal */
export class BufferQueue {
  readonly device: VideoDevice;
  readonly port: Port;
  /** the format its buffers are for; undefined while it has none */
  format: Format | undefined;
  slots: readonly Slot[] = [];
  streaming = false;
  readonly stage: Stage;
  /** buffers that the driver gave back with V4L2_BUF_FLAG_ERROR */
  damaged = 0;
  #memory = v4l2.MEMORY_MMAP;
  /** whether its buffers are closed with it */
  #owned = false;

  /** @param type - V4L2_BUF_TYPE_… */
  constructor(device: VideoDevice, type: number) {
    this.device = device;
    this.stage = new Stage(device.path, device.driver);
    this.port = new Port(() => device.owned.get('ioctl'), type, device.path);
  }

  get #handle(): number {
    return this.device.owned.get('ioctl');
  }

  /** How many the driver has. */
  get queued(): number {
    return this.slots.reduce((sum, { holder }) => sum + Number(holder === 'driver'), 0);
  }

  /**
   * Makes buffers for the format the device has now: as many as are asked for, or as the driver wants at least. Frees
   * what it has made where it fails.
   */
  async allocate({ count, heap }: AllocateOptions): Promise<void> {
    const { slots, format } = this.#request(heap === undefined ? v4l2.MEMORY_MMAP : v4l2.MEMORY_DMABUF, count);
    this.#owned = true;
    try {
      for (const slot of slots) {
        const buffers: DmaBuf[] = [];
        slot.buffers = buffers;
        for (const index of format.planes.keys()) {
          if (heap === undefined) {
            buffers.push(this.#export(slot, index));
            continue;
          }
          const size = (format.planes[index] as PlaneFormat).size;
          const name = this.#name(slot, index);
          const buffer = await heap.alloc(size, { name, planes: layoutOf(format, index) });
          // released meanwhile
          if (this.slots !== slots) {
            buffer.close();
            return;
          }
          buffers.push(buffer);
        }
      }
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /**
   * Takes buffers of the program's, which stay its own: one list for each frame, of one buffer for each plane.
   *
   * @throws RangeError ERR_OUT_OF_RANGE: one is too small, or there are too few
   * @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE: one is there twice
   */
  adopt(frames: readonly (readonly DmaBuf[])[]): void {
    const format = this.port.format;
    const names = new Map<string, string>();
    for (const [index, buffers] of frames.entries()) {
      this.checkBuffers(buffers, format, `buffers[${index}]`);
      for (const [plane, { dma, inode }] of buffers.entries()) {
        const name = `buffers[${index}][${plane}]`;
        const first = names.get(`${dma} ${inode}`);
        if (first !== undefined) {
          throw invalidValue(name, `is the memory of ${first}, too: each frame has its own`, this.#call);
        }
        names.set(`${dma} ${inode}`, name);
      }
    }
    const { slots, format: now } = this.#request(v4l2.MEMORY_DMABUF, frames.length);
    try {
      if (slots.length !== frames.length) {
        const wanted = `${slots.length} frames, as many as the driver wants`;
        throw outOfRange('buffers.length', wanted, frames.length, this.#call);
      }
      for (const [index, slot] of slots.entries()) {
        const buffers = frames[index] as readonly DmaBuf[];
        this.checkBuffers(buffers, now, `buffers[${index}]`);
        slot.buffers = [...buffers];
      }
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Makes room for buffers that others bring. */
  reserve(count: number): void {
    this.#request(v4l2.MEMORY_DMABUF, count);
  }

  get #call() {
    return { syscall: 'ioctl', path: this.device.path };
  }

  #request(memory: number, count: number): { slots: Slot[]; format: Format } {
    const { type } = this.port;
    checkInteger(count, 'count', 1, v4l2.MAX_FRAME, this.#call);
    const imports = memory === v4l2.MEMORY_DMABUF;
    const given = native.v4l2RequestBuffers(this.#handle, type, memory, count);
    if (given < 0) throw videoError(given, 'VIDIOC_REQBUFS', this.device.path, imports);
    if (given === 0) throw videoError(-errno.ENOMEM, 'VIDIOC_REQBUFS', this.device.path);
    const slots = Array.from({ length: given }, (_, index): Slot => ({ index, buffers: [], holder: 'idle' }));
    let format: Format;
    try {
      // Not before: until there are buffers, another program may change it.
      format = this.port.format;
    } catch (error) {
      native.v4l2RequestBuffers(this.#handle, type, memory, 0);
      throw error;
    }
    this.slots = slots;
    this.format = format;
    this.#memory = memory;
    this.#owned = false;
    return { slots, format };
  }

  #name(slot: Slot, plane: number): string {
    const node = this.device.path.replace(/^.*\//, '').slice(0, 16);
    return `${node} ${slot.index}.${plane}`;
  }

  #export(slot: Slot, plane: number): DmaBuf {
    const handle = native.v4l2ExportBuffer(this.#handle, this.port.type, slot.index, plane);
    if (handle < 0) throw videoError(handle, 'VIDIOC_EXPBUF', this.device.path);
    const name = this.#name(slot, plane);
    const named = native.setName(handle, name);
    if (named < 0) {
      native.close(handle);
      throw systemError(named, 'ioctl', this.device.path, 'DMA_BUF_SET_NAME was refused.');
    }
    const { planes } = this.format as Format;
    const length = (planes[plane] as PlaneFormat).size;
    return ownDmaBuf(handle, { length, name, planes: layoutOf(this.format as Format, plane) });
  }

  /**
   * Whether buffers are for the planes of a format.
   *
   * @param name - of the argument
   * @param filled - whether they have their contents already, which may be less than the driver wants room for
   * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE: the message says which plane, what it needs
   *   and what it was given
   */
  checkBuffers(buffers: readonly DmaBuf[], format: Format, name: string, filled = false): void {
    const { pixelFormat, width, height, planes } = format;
    const picture = `${width}x${height} ${pixelFormat}`;
    if (!Array.isArray(buffers)) {
      throw invalidType(name, 'an instance of DmaBuf, or an array of them', buffers, this.#call);
    }
    if (buffers.length !== planes.length) {
      const wanted = `${planes.length}, one buffer for each plane of ${picture}`;
      throw outOfRange(`${name}.length`, wanted, buffers.length, this.#call);
    }
    for (const [plane, { size }] of planes.entries()) {
      const buffer = buffers[plane];
      if (!(buffer instanceof DmaBuf)) {
        throw invalidType(`${name}[${plane}]`, 'an instance of DmaBuf', buffer, this.#call);
      }
      const there = filled ? buffer.size : buffer.length;
      if (there >= size) continue;
      const wanted = `a buffer of at least ${size} bytes: plane ${plane} of ${picture} needs them`;
      throw outOfRange(`${name}[${plane}]`, wanted, `one of ${there} bytes`, this.#call);
    }
  }

  /**
   * Whether what goes with a buffer is about that buffer.
   *
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE
   */
  checkInfo({ buffers }: Slot, info: BufferInfo): void {
    const call = this.#call;
    checkOptions(info, 'info', call);
    checkOptionNames(info, ['planes', 'timestamp', 'field'] satisfies (keyof BufferInfo)[], call);
    const { planes, timestamp, field } = info;
    if (field !== undefined) fieldCode(field, call);
    if (timestamp !== undefined) {
      if (typeof timestamp !== 'bigint') throw invalidType('timestamp', 'of type bigint', timestamp, call);
      if (timestamp < 0n || timestamp > MAX_TIMESTAMP) {
        throw outOfRange('timestamp', `nanoseconds from 0 to ${MAX_TIMESTAMP}`, timestamp, call);
      }
    }
    if (planes === undefined) return;
    if (!Array.isArray(planes)) throw invalidType('planes', 'an array', planes, call);
    if (planes.length > buffers.length) {
      throw outOfRange('planes.length', `at most ${buffers.length}`, planes.length, call);
    }
    for (const [index, use] of planes.entries()) {
      const name = `planes[${index}]`;
      checkOptions(use, name, call);
      checkOptionNames(use, ['bytesUsed', 'dataOffset'] satisfies (keyof PlaneUse)[], call);
      const { bytesUsed = this.format?.planes[index]?.size ?? 1, dataOffset = 0 } = use as PlaneUse;
      // The kernel takes 0 for all of it.
      checkInteger(bytesUsed, `${name}.bytesUsed`, 1, (buffers[index] as DmaBuf).size, call);
      // struct v4l2_buffer has no place for one.
      checkInteger(dataOffset, `${name}.dataOffset`, 0, this.port.multiplanar ? bytesUsed - 1 : 0, call);
    }
  }

  /**
   * Gives a buffer to the driver (VIDIOC_QBUF).
   *
   * @param info - for a driver that reads it
   */
  enqueue(slot: Slot, info: BufferInfo = {}): void {
    if (slot.holder === 'driver') {
      throw systemError(-errno.EBUSY, 'ioctl', this.device.path, `The driver has buffer ${slot.index} already.`);
    }
    const { buffers } = slot;
    const format = this.format as Format;
    const imported = this.#memory === v4l2.MEMORY_DMABUF;
    numbers[BufferField.type] = this.port.type;
    numbers[BufferField.memory] = this.#memory;
    numbers[BufferField.index] = slot.index;
    numbers[BufferField.flags] = 0;
    numbers[BufferField.field] = info.field === undefined ? 0 : fieldCode(info.field, this.#call);
    numbers[BufferField.timestamp] = info.timestamp === undefined ? 0 : Number(info.timestamp / 1000n);
    numbers[BufferField.planeCount] = buffers.length;
    for (let plane = 0; plane < buffers.length; plane++) {
      const at = BufferField.planes + plane * PlaneField.all;
      const buffer = buffers[plane] as DmaBuf;
      const use = info.planes?.[plane];
      numbers[at + PlaneField.bytesUsed] = use?.bytesUsed ?? Math.min(buffer.size, format.planes[plane]?.size ?? 0);
      numbers[at + PlaneField.dataOffset] = use?.dataOffset ?? 0;
      numbers[at + PlaneField.length] = buffer.size;
      numbers[at + PlaneField.fd] = imported ? buffer.fd : -1;
    }
    const error = native.v4l2Queue(this.#handle, numbers.buffer);
    if (error < 0) throw this.#queueError(error, slot);
    slot.holder = 'driver';
    for (const { inode } of buffers) this.stage.given.add(inode);
  }

  #queueError(error: number, { buffers: [first] }: Slot): Error {
    const { path } = this.device;
    const whose = [errno.EFAULT, errno.EINVAL, errno.EPERM, errno.EACCES].includes(-error);
    if (this.#memory !== v4l2.MEMORY_DMABUF || !whose || first === undefined) {
      return videoError(error, 'VIDIOC_QBUF', path);
    }
    return first.importError(error, path);
  }

  /** The next buffer the driver is done with (VIDIOC_DQBUF), or undefined where there is none yet. */
  dequeue(): Done | undefined {
    numbers[BufferField.type] = this.port.type;
    numbers[BufferField.memory] = this.#memory;
    const error = native.v4l2Dequeue(this.#handle, numbers.buffer);
    if (error === -errno.EAGAIN) return undefined;
    if (error < 0) throw videoError(error, 'VIDIOC_DQBUF', this.device.path);
    const slot = this.slots[number(BufferField.index)] as Slot;
    slot.holder = 'program';
    this.stage.count++;
    if ((number(BufferField.flags) & v4l2.BUF_FLAG_ERROR) !== 0) this.damaged++;
    for (const { inode } of slot.buffers) this.stage.gave.add(inode);
    const planes = [];
    for (let plane = 0; plane < number(BufferField.planeCount); plane++) {
      const at = BufferField.planes + plane * PlaneField.all;
      const dataOffset = number(at + PlaneField.dataOffset);
      planes.push({ bytesUsed: number(at + PlaneField.bytesUsed), dataOffset });
      this.#place(slot, plane, dataOffset);
    }
    return {
      slot,
      flags: number(BufferField.flags),
      field: number(BufferField.field),
      sequence: number(BufferField.sequence),
      timestamp: number(BufferField.timestamp),
      planes,
    };
  }

  /** Corrects where the picture is said to lie in a buffer: a driver tells that it begins further inside with a frame. */
  #place(slot: Slot, plane: number, dataOffset: number): void {
    const buffer = slot.buffers[plane];
    if (!this.#owned || buffer === undefined || (buffer.planes[0]?.offset ?? dataOffset) === dataOffset) return;
    Object.assign(buffer, { planes: layoutOf(this.format as Format, plane, dataOffset) });
  }

  /** VIDIOC_STREAMON */
  start(): void {
    const error = native.v4l2Stream(this.#handle, this.port.type, true);
    if (error < 0) throw videoError(error, 'VIDIOC_STREAMON', this.device.path);
    this.streaming = true;
  }

  /** VIDIOC_STREAMOFF: the driver has no buffer after it. A device that is gone streams no more either. */
  stop(): void {
    this.streaming = false;
    if (!this.device.closed) native.v4l2Stream(this.#handle, this.port.type, false);
    for (const slot of this.slots) if (slot.holder === 'driver') slot.holder = 'idle';
  }

  /**
   * Stops, and frees all buffers. Those that the program has are closed by {@link BufferQueue.drop}, when it is done
   * with them.
   */
  release(): void {
    if (this.format === undefined) return;
    this.stop();
    if (!this.device.closed) native.v4l2RequestBuffers(this.#handle, this.port.type, this.#memory, 0);
    for (const slot of this.slots) if (slot.holder === 'idle') this.drop(slot);
    this.slots = [];
    this.format = undefined;
  }

  /** The program is done with a buffer of a queue that was released. */
  drop(slot: Slot): void {
    if (this.#owned) for (const buffer of slot.buffers) buffer.close();
    slot.holder = 'idle';
  }
}

/** What a loop over frames needs of a queue. @internal */
export type FrameQueue = Pick<
  BufferQueue,
  | ('slots' | 'format' | 'queued' | 'streaming' | 'stage' | 'port')
  | ('allocate' | 'adopt' | 'enqueue' | 'dequeue' | 'start' | 'release' | 'drop')
>;
