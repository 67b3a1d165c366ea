// SPDX-License-Identifier: MIT
/** Which buffers went through which device, and whether anybody copied them. @module */
import { copies } from '../copies.js';
import { invalidType } from '../errors.js';
import type { CodecStream } from './codec-stream.js';
import type { FrameSink } from './sink.js';
import type { FrameStream } from './stream.js';

/** What one device was given and gave back. */
export interface StageReport {
  /** its node */
  readonly device: string;
  /** of the kernel */
  readonly driver: string;
  /** buffers that the device gave back, each time counted */
  readonly frames: number;
  /** inodes of the buffers it was given: `DmaBuf.inode`; of more than 1024, the newest */
  readonly given: readonly number[];
  /** inodes of the buffers it gave back; of more than 2048, the newest */
  readonly gave: readonly number[];
  /** whether it was given something, and all of that came from the stage before it; true of the first */
  readonly handedOn: boolean;
  /**
   * Whether its driver fills or reads buffers by the CPU: true of those that are known to, as those of emulated devices and
   * of USB cameras. undefined: this library does not know, for drivers do not say; so far it says false of none.
   */
  readonly driverCopies: boolean | undefined;
}

/** What went through several devices, one after the other. */
export interface PipelineReport {
  /** in the order in which they were named */
  readonly stages: readonly StageReport[];
  /** copies of the contents of buffers that this library made in this thread since the first of them was there */
  readonly copies: number;
  /** bytes of them */
  readonly copiedBytes: number;
}

/**
 * Drivers by whose CPU every byte goes: those without a device, and those of USB, which copy what comes in URBs
 * (uvc_video_copy_data_work and its like, of queues with vb2_vmalloc_memops). By the names they give themselves.
 */
const CPU_DRIVERS = new Set([
  ...['vivid', 'vim2m', 'vicodec', 'vimc'],
  ...['uvcvideo', 'em28xx', 'stk1160', 'usbtv', 'pwc', 'au0828'],
]);

/** Whether a driver of that name is known to copy. @internal */
export function copiesByCpu(driver: string): boolean | undefined {
  return CPU_DRIVERS.has(driver) || undefined;
}

/** Buffers that are remembered of a device that is given ever new ones. */
const MAX_GIVEN = 1024;
/** More: they are compared with those that the next device was given before. */
const MAX_GAVE = 2 * MAX_GIVEN;

/** The newest of what was added, in the order in which they were new. @internal */
export class Newest extends Set<number> {
  readonly #max: number;

  constructor(max: number) {
    super();
    this.#max = max;
  }

  override add(value: number): this {
    super.add(value);
    const [oldest] = this;
    if (this.size > this.#max) this.delete(oldest as number);
    return this;
  }
}

/** @internal */
export class Stage {
  readonly given = new Newest(MAX_GIVEN);
  readonly gave = new Newest(MAX_GAVE);
  readonly before = { ...copies };
  count = 0;

  constructor(
    readonly device: string,
    readonly driver: string,
  ) {}
}

/** The two queues of one device as one stage: what went into it, and what came out. @internal */
export function joinStages(input: Stage, output: Stage, count: number): Stage {
  const stage = new Stage(output.device, output.driver);
  return Object.assign(stage, { given: input.given, gave: output.gave, before: input.before, count });
}

/** What has something to report. */
export type Staged = FrameStream | CodecStream | FrameSink;

function stageOf(one: unknown, name: string): Stage {
  const stage = typeof one === 'object' && one !== null && 'stage' in one ? one.stage : undefined;
  if (stage instanceof Stage) return stage;
  throw invalidType(name, 'an instance of FrameStream, CodecStream or FrameSink', one);
}

/**
 * What went through a pipeline so far, and how often this library had the CPU copy it. A `read()` that a program copies
 * in itself is its own.
 *
 * @param first - its first device
 * @param others - those after it, in their order
 * @throws TypeError ERR_INVALID_ARG_TYPE
 */
export function pipelineReport(first: Staged, ...others: readonly Staged[]): PipelineReport {
  const stages = [first, ...others].map((one, index) => stageOf(one, index === 0 ? 'first' : `others[${index - 1}]`));
  const { before: begin } = stages[0] as Stage;
  return {
    stages: stages.map(({ device, driver, count, given, gave }, index) => ({
      device,
      driver,
      frames: count,
      given: [...given],
      gave: [...gave],
      handedOn: index === 0 || (given.size > 0 && [...given].every((inode) => stages[index - 1]?.gave.has(inode))),
      driverCopies: copiesByCpu(driver),
    })),
    copies: copies.count - begin.count,
    copiedBytes: copies.bytes - begin.bytes,
  };
}
