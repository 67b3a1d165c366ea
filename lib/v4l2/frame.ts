// SPDX-License-Identifier: MIT
/** One picture and the buffers it is in. @module */
import { constants as osConstants } from 'node:os';
import type { DmaBuf } from '../dmabuf.js';
import { DmaBufError, illegalConstructor, outOfRange } from '../errors.js';
import { native } from '../native.js';
import { type FieldOrder, type Format, fieldName } from './formats.js';
import type { Done } from './queue.js';

const { v4l2 } = native;

/** One plane of a {@link Frame}: a buffer, and what of it is in use. */
export interface FramePlane {
  /** the memory; it belongs to the stream, so dup() is what keeps it */
  readonly buffer: DmaBuf;
  /** bytes that the driver has filled, from the start of the buffer */
  readonly bytesUsed: number;
  /** bytes in front of the picture, which are among those that are used */
  readonly dataOffset: number;
  /** bytes from the start of a row to that of the next; 0 where there are no rows */
  readonly stride: number;
}

/** Who gives a buffer back. @internal */
export type Return = () => void;

const secret = Symbol('frame');

/** Makes a frame of what a driver gave back. @internal */
export let makeFrame: (done: Done, format: Format, what: string, end: Return) => Frame;

interface Held {
  what: string;
  end: Return;
}

const registry = new FinalizationRegistry<Held>(({ what, end }) => {
  end();
  process.emitWarning(`${what} was left to the garbage collector: call close(), or declare it with \`using\``, {
    type: 'DmaBufWarning',
    code: 'DMABUF_NOT_CLOSED',
  });
});

/**
 * A picture of a stream. Its buffers go back to the driver when it is closed, which fills them anew: what is read of
 * them later is another picture.
 */
export class Frame implements Disposable {
  /** what it looks like */
  readonly format: Format;
  /** counts the frames of a device: a gap is as many that were dropped */
  readonly sequence: number;
  /** V4L2_BUF_FLAG_… bits, as the driver set them */
  readonly flags: number;
  /** in which order its lines are */
  readonly field: FieldOrder;
  readonly #timestamp: number;
  readonly #held: Held;
  #planes: readonly FramePlane[] | undefined;

  static {
    makeFrame = (done, format, what, end) => new Frame(secret, done, format, what, end);
  }

  private constructor(key: symbol, done: Done, format: Format, what: string, end: Return) {
    if (key !== secret) throw illegalConstructor('A Frame comes from a stream of frames');
    this.format = format;
    this.sequence = done.sequence;
    this.flags = done.flags;
    this.field = fieldName(done.field);
    this.#timestamp = done.timestamp;
    this.#held = { what, end };
    const { buffers } = done.slot;
    this.#planes = done.planes.map(({ bytesUsed, dataOffset }, index) => ({
      buffer: buffers[index] as DmaBuf,
      bytesUsed,
      dataOffset,
      stride: format.planes[index]?.stride ?? 0,
    }));
    registry.register(this, this.#held, this.#held);
  }

  /**
   * Its planes, one of a single-planar device.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED: the buffers are the driver's again
   */
  get planes(): readonly FramePlane[] {
    if (this.#planes !== undefined) return this.#planes;
    throw new DmaBufError('ERR_DMABUF_CLOSED', `${this.#held.what} is closed: its buffers are the driver's again`, {
      errno: -osConstants.errno.EBADF,
    });
  }

  /** The buffers of its planes: what `socket.send(value, frame.buffers)` takes. */
  get buffers(): DmaBuf[] {
    return this.planes.map(({ buffer }) => buffer);
  }

  /**
   * When it was captured, in nanoseconds; as of `process.hrtime.bigint()` where {@link Frame.monotonic}. The kernel
   * counts in microseconds.
   */
  get timestamp(): bigint {
    return BigInt(this.#timestamp) * 1000n;
  }

  /** Whether the timestamp is of the clock of `process.hrtime` (V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC). */
  get monotonic(): boolean {
    return (this.flags & v4l2.BUF_FLAG_TIMESTAMP_MASK) === v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC;
  }

  /** Whether the driver says that the picture may be damaged (V4L2_BUF_FLAG_ERROR). */
  get damaged(): boolean {
    return (this.flags & v4l2.BUF_FLAG_ERROR) !== 0;
  }

  /** Whether a compressed picture needs no other one (V4L2_BUF_FLAG_KEYFRAME). */
  get keyframe(): boolean {
    return (this.flags & v4l2.BUF_FLAG_KEYFRAME) !== 0;
  }

  /** Whether {@link Frame.close} was called. */
  get closed(): boolean {
    return this.#planes === undefined;
  }

  /**
   * Calls `fn` with the bytes of a plane that are in use, without those in front of the picture, in a bracket for
   * reading: as `DmaBuf.read`.
   *
   * @param plane - its index; default 0
   * @returns what `fn` returns
   * @throws RangeError ERR_OUT_OF_RANGE; what `DmaBuf.read` does
   */
  read<T>(fn: (bytes: Uint8Array<ArrayBuffer>) => T, plane = 0): T {
    const one = this.planes[plane];
    if (one === undefined) throw outOfRange('plane', `an index below ${this.planes.length}`, plane);
    const { buffer, dataOffset, bytesUsed } = one;
    return buffer.read((bytes) => fn(bytes.subarray(dataOffset, Math.max(dataOffset, bytesUsed))));
  }

  /** Gives the buffers back to the driver. May be called twice. */
  close(): void {
    if (this.#planes === undefined) return;
    this.#planes = undefined;
    registry.unregister(this.#held);
    this.#held.end();
  }

  /** The same as {@link Frame.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
