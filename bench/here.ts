// SPDX-License-Identifier: MIT
/**
 * What a script does with the library, for here.c to be compared with: for each line on
 * standard input, "map BYTES COUNT" or "pass DESCRIPTORS COUNT", it does that COUNT times
 * and prints the nanoseconds of one time.
 *
 * @module
 */
import { closeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { FdSocket, openHeap } from 'dmabuf';

using heap = openHeap('memfd');

/** A turn of the event loop, without which nothing of what was closed is given back. */
const TURN_EVERY = 16;

async function timeMap(size: number, count: number): Promise<number> {
  using buffer = heap.allocSync(size);
  const start = process.hrtime.bigint();
  for (let i = 1; i <= count; i++) {
    buffer.map().close();
    if (i % TURN_EVERY === 0) await setImmediate();
  }
  return Number(process.hrtime.bigint() - start) / count;
}

/** There and back again. */
async function pass(one: FdSocket, other: FdSocket, fds: readonly number[]): Promise<void> {
  await one.send({ width: 800, height: 480 }, fds);
  const there = await other.receive();
  await other.send(there?.value, there?.fds);
  for (const fd of there?.fds ?? []) closeSync(fd);
  const back = await one.receive();
  for (const fd of back?.fds ?? []) closeSync(fd);
}

async function timePass(fdCount: number, count: number): Promise<number> {
  const buffers = Array.from({ length: fdCount }, () => heap.allocSync(4096));
  const [one, other] = FdSocket.pair();
  const fds = buffers.map(({ fd }) => fd);
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) await pass(one, other, fds);
  const end = process.hrtime.bigint();
  for (const owner of [one, other, ...buffers]) owner.close();
  return Number(end - start) / count;
}

for await (const line of createInterface({ input: process.stdin })) {
  const [what, argument, count] = line.split(' ');
  const time = what === 'map' ? timeMap : timePass;
  console.log((await time(Number(argument), Number(count))).toFixed(1));
}
