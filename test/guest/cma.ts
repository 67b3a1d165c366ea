// SPDX-License-Identifier: MIT
/** What tests of /dev/cma_mem spell out of its calls. */
import assert from 'node:assert/strict';
import * as abi from './abi.ts';
import { counters, eventually, idleCounters } from './support.ts';
import { O_RDWR, Syscalls } from './syscalls.ts';

/** Runs a test with /dev/cma_mem open, and checks that it leaves no page once the process has ended. */
export async function withCma(
  context: Mocha.Context,
  body: (process: Syscalls, cma: number) => Promise<void>,
): Promise<void> {
  {
    await using process = await Syscalls.start(context);
    await body(process, await process.must('open', '/dev/cma_mem', O_RDWR));
  }
  await eventually(() => assert.deepEqual(counters('cma_mem'), idleCounters.cma_mem));
}

export type Info = ReturnType<typeof abi.parseCmaInfo>;

/** A CMEM_* call that must go well: what it answers. */
export async function info(process: Syscalls, cma: number, request: number, data: abi.CmaInfo): Promise<Info> {
  const { code, bytes } = await process.call('ioctl', cma, request, abi.cmaInfo(data));
  assert.equal(code, '', `request 0x${request.toString(16)}`);
  return abi.parseCmaInfo(bytes);
}

/** The same, of one that must fail. */
export const refuses = (code: string, process: Syscalls, cma: number, request: number, data: abi.CmaInfo) =>
  process.fails(code, 'ioctl', cma, request, abi.cmaInfo(data));

export const allocate = (process: Syscalls, cma: number, data: abi.CmaInfo) =>
  info(process, cma, abi.CMEM_ALLOCATE, data);

export const exportRegion = (process: Syscalls, cma: number, id: number, flags: number) =>
  process.call('ioctl', cma, abi.CMEM_IOC_EXPORT, abi.cmaExport({ id, flags }));

export const connect = (process: Syscalls, cma: number, fd: number) =>
  process.call('ioctl', cma, abi.CMEM_CONNECT, abi.cmaInfo({ id: fd }));
