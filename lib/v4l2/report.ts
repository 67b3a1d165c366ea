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
  /** inodes of the buffers it was given: `DmaBuf.inode` */
  readonly given: readonly number[];
  /** inodes of the buffers it gave back */
  readonly gave: readonly number[];
  /** whether all that it was given came from the stage before it; true of the first */
  readonly handedOn: boolean;
  /** whether its driver is known to fill or read buffers by the CPU, as those of emulated devices do */
  readonly driverCopies: boolean;
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

/** Drivers without a device that does DMA: vivid and its like. */
const CPU_DRIVERS = new Set(['vivid', 'vim2m', 'vicodec', 'vimc', 'v4l2 loopback']);

/** @internal */
export class Stage {
  readonly given = new Set<number>();
  readonly gave = new Set<number>();
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
      handedOn: index === 0 || [...given].every((inode) => stages[index - 1]?.gave.has(inode)),
      driverCopies: CPU_DRIVERS.has(driver),
    })),
    copies: copies.count - begin.count,
    copiedBytes: copies.bytes - begin.bytes,
  };
}
