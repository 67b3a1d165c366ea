// SPDX-License-Identifier: MIT
/**
 * A camera whose frames a thread turns into their negative, in the buffers they are in, while the main one goes on
 * capturing.
 *
 *     scripts/guest --share out -- node examples/worker-filter.ts /share/negative.png
 *
 * @module
 */
import { isMainThread } from 'node:worker_threads';
import { openHeap, type Plane, parentSocket, rows, workerWithSocket } from 'dmabuf';
import { openCamera, runExample } from './camera/open.ts';
import { setPngFormat, writePng } from './camera/png.ts';

const FRAMES = 10;
const none = { buffer: undefined, dataOffset: 0, stride: 0, bytesUsed: 0 };

/** The thread: a message is the plane a frame is in, with its buffer. */
async function filter(): Promise<void> {
  using socket = parentSocket();
  for await (using message of socket.buffers()) {
    const plane = message.value as Plane;
    message.buffers[0]?.readwrite((bytes) => {
      for (const row of rows(bytes, plane)) for (let at = 0; at < row.length; at++) row[at] = 255 - (row[at] as number);
    });
    await socket.send('done');
  }
}

async function main(): Promise<void> {
  const [, , path = 'negative.png'] = process.argv;
  using camera = openCamera();
  using heap = openHeap('ion', { contiguous: true });
  const format = setPngFormat(camera, 320, 180);
  const { socket } = workerWithSocket(new URL(import.meta.url));
  const stream = camera.frames({ count: 4, heap });
  for await (using frame of stream) {
    const [{ buffer, dataOffset: offset, stride, bytesUsed } = none] = frame.planes;
    if (buffer === undefined) break;
    await socket.send({ offset, stride, length: bytesUsed - offset } satisfies Plane, [buffer]);
    if ((await socket.receive()) === undefined) throw new Error('the thread has ended');
    if (stream.frames < FRAMES) continue;
    writePng(frame, path);
    break;
  }
  socket.close(); // the thread's loop ends with it
  console.log(`${path}: the negative of ${format.width}x${format.height} ${format.pixelFormat}, by a thread`);
  console.log(`${stream.frames} frames, ${stream.dropped} dropped`);
}

if (isMainThread) await runExample('worker-filter', main);
else await filter();
