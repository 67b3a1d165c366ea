// SPDX-License-Identifier: MIT
/**
 * What a script does with the library, for here.c and koffi.ts to be compared with: for each line on
 * standard input it does that COUNT times and prints the nanoseconds of one: "map BYTES COUNT",
 * "life BYTES COUNT", "fill BYTES COUNT", "copy BYTES COUNT" or "pass DESCRIPTORS COUNT"; "trip DESCRIPTORS COUNT",
 * the same to another process and back; "frame BYTES COUNT", a frame that another process has then, and "lend BYTES
 * COUNT", one of a pool that it looks at and gives back; "queue MESSAGES COUNT", one of so many that wait; where there is an ION, "ion BYTES COUNT", a life there, and "bracket BYTES
 * COUNT", the two halves of a CPU access.
 *
 * @module
 */
import { closeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { BufferPool, FdSocket, type Heap, openHeap, spawnWithSocket } from 'dmabuf';

using heap = openHeap('memfd');
const ion = () => openHeap('ion', { type: 'system' });

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

/** What a buffer has from its allocation to its end. */
async function timeLife(heap: Heap, size: number, count: number): Promise<number> {
  const start = process.hrtime.bigint();
  for (let i = 1; i <= count; i++) {
    const buffer = heap.allocSync(size);
    const mapping = buffer.map();
    new Uint8Array(mapping.buffer)[0] = 1;
    mapping.close();
    buffer.close();
    if (i % TURN_EVERY === 0) await setImmediate();
  }
  return Number(process.hrtime.bigint() - start) / count;
}

function timeBracket(size: number, count: number): number {
  using buffer = ion().allocSync(size);
  const nothing = () => {};
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) buffer.read(nothing);
  return Number(process.hrtime.bigint() - start) / count;
}

/** Bytes of a mapping set, or copied to others of the same. */
function timeBytes(size: number, count: number, copies: boolean): number {
  using buffer = heap.allocSync(2 * size);
  using mapping = buffer.map();
  const bytes = new Uint8Array(mapping.buffer);
  bytes.fill(1);
  const [first, second] = [bytes.subarray(0, size), bytes.subarray(size)];
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    if (copies) second.set(first);
    else first.fill(i);
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

const echo = fileURLToPath(new URL('echo.ts', import.meta.url));

/** To another process and back. It is started once. */
let other: FdSocket | undefined;

async function timeTrip(fdCount: number, count: number): Promise<number> {
  other ??= spawnWithSocket(process.execPath, [...process.execArgv, echo], { stdio: 'inherit' }).socket;
  const buffers = Array.from({ length: fdCount }, () => heap.allocSync(4096));
  const fds = buffers.map(({ fd }) => fd);
  const trip = async () => {
    await other?.send({ width: 800, height: 480 }, fds);
    const back = await other?.receive();
    for (const fd of back?.fds ?? []) closeSync(fd);
  };
  await trip();
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) await trip();
  const end = process.hrtime.bigint();
  for (const buffer of buffers) buffer.close();
  return Number(end - start) / count;
}

/** One that looks at frames, or only has them. */
let viewer: FdSocket | undefined;

/** A frame is handed over and answered; bench/process-send.ts does it by the bytes. */
async function timeFrame(count: number, hand: (socket: FdSocket) => Promise<void>): Promise<number> {
  viewer ??= spawnWithSocket(process.execPath, [...process.execArgv, echo, 'frames'], { stdio: 'inherit' }).socket;
  await hand(viewer);
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) await hand(viewer);
  return Number(process.hrtime.bigint() - start) / count;
}

async function timeHanding(size: number, count: number): Promise<number> {
  using frame = heap.allocSync(size);
  return await timeFrame(count, async (socket) => {
    await socket.send('have', [frame]);
    await socket.receive();
  });
}

async function timeLending(size: number, count: number): Promise<number> {
  using pool = await BufferPool.create(heap, size, { count: 2 });
  return await timeFrame(count, async (socket) => {
    using frame = await pool.acquire();
    await frame.send(socket, 'look');
    await socket.receive();
  });
}

/** One of so many messages that are sent before the first is received. */
async function timeQueue(messages: number, count: number): Promise<number> {
  const [one, other] = FdSocket.pair();
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    const sent = Array.from({ length: messages }, (_, number) => one.send({ number }));
    for (let received = 0; received < messages; received++) await other.receive();
    await Promise.all(sent);
  }
  const end = process.hrtime.bigint();
  one.close();
  other.close();
  return Number(end - start) / count / messages;
}

const times: Record<string, (argument: number, count: number) => number | Promise<number>> = {
  map: timeMap,
  life: (size, count) => timeLife(heap, size, count),
  ion: (size, count) => timeLife(ion(), size, count),
  bracket: timeBracket,
  fill: (size, count) => timeBytes(size, count, false),
  copy: (size, count) => timeBytes(size, count, true),
  pass: timePass,
  trip: timeTrip,
  frame: timeHanding,
  lend: timeLending,
  queue: timeQueue,
};

for await (const line of createInterface({ input: process.stdin })) {
  const [what = '', argument, count] = line.split(' ');
  console.log((await times[what]?.(Number(argument), Number(count)))?.toFixed(1));
}
other?.close();
viewer?.close();
