// SPDX-License-Identifier: MIT
import { checkInteger } from './arguments.js';
import { Watched } from './collected.js';
import { DmaBufError, illegalConstructor } from './errors.js';
import type { AccessDirection } from './fences.js';
import { type Plane, rows, somePlanes } from './planes.js';

/** What an {@link Access} is of. @internal */
export interface AccessSource {
  direction: AccessDirection;
  bytes: Uint8Array<ArrayBuffer>;
  planes: readonly Plane[];
  /** names the buffer */
  what: string;
  /** whether the bracket is open still: closing the buffer ends it */
  open: () => boolean;
  /** `loud`: throws where the kernel refuses */
  end: (loud: boolean) => void;
}

const secret = Symbol('access');

/** A bracket that nobody has ended when its {@link Access} is collected. */
class Forgotten extends Watched {
  readonly #source: AccessSource;

  constructor(owner: object, source: AccessSource) {
    super(owner);
    this.#source = source;
  }

  gone(): void {
    const { open, end, what } = this.#source;
    if (!open()) return;
    end(false);
    process.emitWarning(
      `An access to ${what} was left to the garbage collector: call close(), or declare it with \`using\``,
      { type: 'DmaBufWarning', code: 'DMABUF_NOT_CLOSED' },
    );
  }
}

/** Makes an {@link Access} of a bracket that was begun. @internal */
export let openAccess: (source: AccessSource) => Access;

/**
 * A bracket of DMA_BUF_IOCTL_SYNC start and end round what the CPU does with the bytes, for where a callback does
 * not do: `using access = await buffer.access('read')`.
 */
export class Access implements Disposable {
  /** What may be done with the bytes. */
  readonly direction: AccessDirection;
  readonly #source: AccessSource;
  readonly #forgotten: Forgotten;

  static {
    openAccess = (source) => new Access(secret, source);
  }

  private constructor(key: symbol, source: AccessSource) {
    if (key !== secret) throw illegalConstructor('An Access is made by access() of a DmaBuf');
    this.direction = source.direction;
    this.#source = source;
    this.#forgotten = new Forgotten(this, source);
    this.#forgotten.watch();
  }

  /**
   * The memory itself, no copy, and not to be kept.
   *
   * @throws DmaBufError ERR_DMABUF_CLOSED: this, or the buffer, is closed
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    const { open, bytes, what } = this.#source;
    if (open()) return bytes;
    throw new DmaBufError('ERR_DMABUF_CLOSED', `This access to ${what} is closed: close it after its last use`);
  }

  /**
   * The rows of a plane.
   *
   * @param plane - its index in {@link DmaBuf.planes}
   * @param width - bytes of a row that are pixels; default: the stride
   * @throws RangeError ERR_OUT_OF_RANGE
   * @throws DmaBufError ERR_DMABUF_CLOSED
   */
  rows(plane = 0, width?: number): IterableIterator<Uint8Array<ArrayBuffer>> {
    const { bytes } = this;
    const planes = somePlanes(this.#source.planes, this.#source.what);
    checkInteger(plane, 'plane', 0, planes.length - 1);
    return rows(bytes, planes[plane] as Plane, width);
  }

  /** Whether the bracket has ended. */
  get closed(): boolean {
    return !this.#source.open();
  }

  /**
   * Ends the bracket. May be called twice.
   *
   * @throws SystemError where the exporter refuses
   */
  close(): void {
    this.#forgotten.unwatch();
    this.#source.end(true);
  }

  /** The same as {@link Access.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
