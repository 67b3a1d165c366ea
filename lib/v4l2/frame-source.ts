// SPDX-License-Identifier: MIT
/** What a loop over frames has, wherever they come from. @module */
import type { DmaBuf } from '../dmabuf.js';
import type { VideoDevice } from './device.js';
import type { Format } from './formats.js';
import { type Frame, makeFrame } from './frame.js';
import type { Done, FrameQueue, Slot } from './queue.js';
import type { Stage } from './report.js';

/** Milliseconds a program may hold all frames while it waits for one, before it is told. */
const PATIENCE_MS = 2000;

/** What a frame is made of. @internal */
export interface ReadyFrame {
  done: Done;
  format: Format;
}

/** Frames that come out of a device one after the other: {@link FrameStream} and {@link CodecStream}. */
export abstract class FrameSource implements AsyncIterableIterator<Frame>, Disposable {
  /** @internal */
  protected readonly device: VideoDevice;
  /** what its frames come in @internal */
  protected readonly output: FrameQueue;
  #frames = 0;
  #told = false;

  /** @internal */
  protected constructor(device: VideoDevice, output: FrameQueue) {
    this.device = device;
    this.output = output;
  }

  /** Whether it has ended. Frames that it made before may still be there to be asked for. */
  abstract get closed(): boolean;

  /** What went through it, for {@link pipelineReport}. @internal */
  abstract get stage(): Stage;

  /** The next frame. A loop calls it. */
  abstract next(): Promise<IteratorResult<Frame, undefined>>;

  /** Ends it. Frames that the program has still show what they showed. May be called twice. */
  abstract close(): void;

  /** A buffer is the driver's again, or could not be given to it. @internal */
  protected abstract gaveBack(error?: unknown): void;

  /** Frames that have come out. */
  get frames(): number {
    return this.#frames;
  }

  /** The buffers that frames come in, as lists of one for each plane; none before there was one. */
  get buffers(): readonly (readonly DmaBuf[])[] {
    return this.output.slots.map(({ buffers }) => buffers);
  }

  /** What frames look like that come next; undefined before there was one, and after the end. */
  get format(): Format | undefined {
    return this.output.format;
  }

  /** Leaves the loop: ends it. */
  async return(): Promise<IteratorResult<Frame, undefined>> {
    this.close();
    return { value: undefined, done: true };
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The same as {@link FrameSource.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** What the driver is done with. @internal */
  protected cameOut(done: Done): ReadyFrame {
    this.#frames++;
    return { done, format: this.output.format as Format };
  }

  /** The same as a frame of the program's. @internal */
  protected frameOf({ done, format }: ReadyFrame): Frame {
    const { slot, sequence } = done;
    const what = `Frame ${sequence} of ${this.device.path}`;
    return makeFrame(done, format, what, () => this.giveBack(slot));
  }

  /** A frame was closed, or there is to be none. @internal */
  protected giveBack(slot: Slot): void {
    // It may be of buffers that there were before.
    if (!this.output.slots.includes(slot)) {
      this.output.drop(slot);
      return;
    }
    try {
      this.output.enqueue(slot);
    } catch (error) {
      // Whoever closes a frame is not to blame: the next who asks for one is told.
      slot.holder = 'idle';
      this.gaveBack(error);
      return;
    }
    this.gaveBack();
  }

  /**
   * Tells the program, once, where it waits for a frame for long and holds all there are.
   *
   * @param waits - whether it does, asked when the time is over
   * @returns what ends the time
   * @internal
   */
  protected tellWhere(waits: () => boolean): NodeJS.Timeout | undefined {
    if (this.#told || !waits()) return undefined;
    return setTimeout(() => {
      if (this.#told || !waits()) return;
      this.#told = true;
      process.emitWarning(
        `A loop waits for a frame of ${this.device.path}, and the program holds all ${this.output.slots.length}: close() frames that are no longer needed, or declare them with \`using\``,
        { type: 'DmaBufWarning', code: 'DMABUF_FRAMES_HELD' },
      );
    }, PATIENCE_MS);
  }
}
