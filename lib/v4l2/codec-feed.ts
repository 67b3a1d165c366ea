// SPDX-License-Identifier: MIT
/**
 * What a codec reads: one input after the other from a source, each lent to the driver until it has read it.
 *
 * @module
 */
import { constants as osConstants } from 'node:os';
import { systemError } from '../errors.js';
import { type CodecInput, fillSlot, type Given, readInput } from './codec-input.js';
import type { VideoDevice } from './device.js';
import type { BufferQueue, Slot } from './queue.js';

const { errno } = osConstants;

/** Where input comes from. @internal */
export type CodecSource = AsyncIterator<CodecInput> | Iterator<CodecInput>;

/** What a feed tells the stream it belongs to. @internal */
export interface CodecFeedListener {
  /** The queue has buffers, and the first input is about to go in. */
  begin(): Promise<void>;
  /** An answer of the source was dealt with. */
  stir(): void;
  /** It cannot go on. */
  fail(error: unknown): void;
  /** What was lent could not be given back. */
  mishap(error: unknown): void;
}

/** @internal */
export interface CodecFeedOptions {
  source: CodecSource;
  /** buffers of the driver's, or those that it has at the same time */
  inputCount: number;
  /** whether input is pieces of a stream, of any length */
  pieces: boolean;
}

/** Asks for input as far as the driver has buffers for it, and no further. @internal */
export class CodecFeed {
  readonly queue: BufferQueue;
  readonly #device: VideoDevice;
  readonly #options: CodecFeedOptions;
  readonly #listener: CodecFeedListener;
  /** undefined: it has ended, or was left */
  #source: CodecSource | undefined;
  /** whether the source is being asked, or its answer put into a buffer */
  #pulling = false;
  /** whether the driver is fed bytes; undefined before the first input */
  #copies: boolean | undefined;
  /** what the driver reads, by its slot */
  readonly #lent = new Map<Slot, Given>();
  /** the buffer that a slot had last: the kernel keeps its mapping */
  readonly #inodes = new Map<Slot, number>();
  #inputs = 0;
  #over = false;
  #leaving: Promise<unknown> = Promise.resolve();

  constructor(device: VideoDevice, queue: BufferQueue, options: CodecFeedOptions, listener: CodecFeedListener) {
    this.#device = device;
    this.queue = queue;
    this.#options = options;
    this.#source = options.source;
    this.#listener = listener;
  }

  /** Inputs that the driver has got. */
  get inputs(): number {
    return this.#inputs;
  }

  /** The source has ended, and everything of it is the driver's. */
  get done(): boolean {
    return this.#source === undefined && !this.#pulling;
  }

  /** Whether somebody is to be told of inputs that were read. */
  get awaited(): boolean {
    return [...this.#lent.values()].some(({ told }) => told);
  }

  /** Takes back what the driver has read, and says whether that was anything. */
  reap(): boolean {
    let any = false;
    while (this.queue.streaming) {
      const done = this.queue.dequeue();
      if (done === undefined) break;
      any = true;
      const { slot } = done;
      slot.holder = 'idle';
      const given = this.#lent.get(slot);
      this.#lent.delete(slot);
      given?.release();
    }
    return any;
  }

  /** Asks the source for one more, where there is a buffer for it. Never rejects. */
  async pull(): Promise<void> {
    const source = this.#source;
    if (this.#pulling || source === undefined) return;
    if (this.#copies !== undefined && !this.queue.slots.some(({ holder }) => holder === 'idle')) return;
    this.#pulling = true;
    try {
      const result = await this.#ask(source);
      if (result.done === true) this.#source = undefined;
      else await this.#take(result.value);
    } catch (error) {
      this.#listener.fail(error);
    } finally {
      this.#pulling = false;
      this.#listener.stir();
    }
  }

  /** Takes everything back from the driver, and leaves the loop over the source. May be called twice. */
  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.queue.release();
    for (const given of this.#lent.values()) this.#release(given);
    this.#lent.clear();
    const source = this.#source;
    this.#source = undefined;
    // An iterator may have nothing to do at its end, and what it says there comes too late for anybody.
    this.#leaving = (async () => source?.return?.())().catch(() => {});
  }

  /** Waits for the end of the loop over the source, unless that waits itself for what may never come. */
  async left(): Promise<void> {
    if (!this.#pulling) await this.#leaving;
  }

  #release(given: Given): void {
    try {
      given.release();
    } catch (error) {
      this.#listener.mishap(error);
    }
  }

  async #ask(source: CodecSource): Promise<IteratorResult<CodecInput>> {
    try {
      return await source.next();
    } catch (error) {
      // It has ended by that.
      this.#source = undefined;
      throw error;
    }
  }

  async #take(value: unknown): Promise<void> {
    const given = readInput(value, { syscall: 'ioctl', path: this.#device.path });
    try {
      await this.#begin(given);
      if (this.#over) this.#release(given);
      else this.#give(given);
    } catch (error) {
      this.#release(given);
      throw error;
    }
  }

  /** Makes the queue for what the first input is. */
  async #begin(given: Given): Promise<void> {
    const copies = given.buffers === undefined;
    if (this.#copies !== undefined || this.#over) {
      if (this.#over || this.#copies === copies) return;
      const advice = `Its input began with ${copies ? 'buffers, and goes on with bytes' : 'bytes, and goes on with buffers'}: process() takes one or the other.`;
      throw systemError(-errno.EINVAL, 'ioctl', this.#device.path, advice);
    }
    const { inputCount } = this.#options;
    if (copies) await this.queue.allocate({ count: inputCount });
    else this.queue.reserve(inputCount);
    this.#copies = copies;
    if (!this.#over) await this.#listener.begin();
  }

  #give(given: Given): void {
    const idle = this.queue.slots.filter(({ holder }) => holder === 'idle');
    const inode = given.buffers?.[0]?.inode;
    const slot = idle.find((one) => inode !== undefined && this.#inodes.get(one) === inode) ?? (idle[0] as Slot);
    if (given.frame !== undefined && [...this.#lent.values()].some(({ frame }) => frame === given.frame)) {
      throw systemError(-errno.EBUSY, 'ioctl', this.#device.path, 'The driver has this frame already.');
    }
    const info = fillSlot(this.queue, slot, given, this.#options.pieces);
    this.queue.enqueue(slot, info);
    this.#inputs++;
    this.#lent.set(slot, given);
    if (inode !== undefined) this.#inodes.set(slot, inode);
    if (!this.queue.streaming) this.queue.start();
  }
}
