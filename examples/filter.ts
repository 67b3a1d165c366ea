// SPDX-License-Identifier: MIT
/**
 * A filter on all processors: threads map the same frame, and take its rows from a counter by Atomics until none is left.
 *
 *     node examples/filter.ts
 *
 * Where a machine has no heap of DMA memory, a memfd stands in.
 *
 * @module
 */
import { availableParallelism } from 'node:os';
import { isMainThread, workerData } from 'node:worker_threads';
import { type DmaBuf, openHeap, parentSocket, rows, workerWithSocket } from 'dmabuf';

const [width, height, stride] = [1000, 600, 4096];

/** What the threads share beside the frame: the next row that nobody has. */
type Counter = Int32Array<SharedArrayBuffer>;

/** Turns the rows into their negative that this thread gets. */
function filter(frame: DmaBuf, next: Counter): number {
  return frame.readwrite((bytes) => {
    const all = [...rows(bytes, { stride }, width * 4)];
    let count = 0;
    for (let y = Atomics.add(next, 0, 1); y < height; y = Atomics.add(next, 0, 1)) {
      const row = all[y] as Uint8Array;
      for (let x = 0; x < row.length; x++) row[x] = 255 - (row[x] as number);
      count++;
    }
    return count;
  });
}

/** A thread: filters the frames that come. */
async function work(next: Counter): Promise<void> {
  using socket = parentSocket();
  for await (using message of socket.buffers()) {
    const [frame] = message.buffers;
    if (frame !== undefined) await socket.send(filter(frame, next));
  }
}

async function main(): Promise<void> {
  using heap = openHeap({ dma: false });
  using frame = await heap.alloc(stride * height, { name: 'picture', planes: [{ stride }] });
  frame.write((bytes) => {
    for (let at = 0; at < bytes.length; at++) bytes[at] = at;
  });
  const next: Counter = new Int32Array(new SharedArrayBuffer(4));
  const threads = Array.from({ length: Math.max(2, availableParallelism()) }, () =>
    workerWithSocket(new URL(import.meta.url), { workerData: next }),
  );
  const counts = await Promise.all(
    threads.map(async ({ socket }) => {
      await socket.send('filter', [frame]);
      const answer = await socket.receive();
      socket.close(); // the thread's loop ends with it
      return answer?.value as number;
    }),
  );
  const wrong = frame.read((bytes) =>
    bytes.reduce(
      (count, byte, at) => count + Number(byte !== (at % stride < width * 4 ? 255 - (at % 256) : at % 256)),
      0,
    ),
  );
  const total = counts.reduce((sum, count) => sum + count, 0);
  console.log(`${total} rows by ${counts.length} threads, ${wrong} bytes wrong`);
}

if (isMainThread) await main();
else await work(workerData as Counter);
