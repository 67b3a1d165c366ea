// SPDX-License-Identifier: MIT
import { parentPort, workerData } from 'node:worker_threads';
import { DmaBuf, FdSocket, openHeap } from 'dmabuf';

const heap = openHeap('memfd');
const keep = [];
// reachable until the thread ends
globalThis.keep = keep;

const modes = {
  fill() {
    const buffer = DmaBuf.fromFd(workerData.fd);
    buffer.write((bytes) => bytes.fill(0x44));
    parentPort.postMessage({ size: buffer.size, inode: buffer.inode });
    // neither the buffer nor its mapping is closed: the end of the thread does it
  },
  async echo() {
    const socket = FdSocket.fromFd(workerData.fd);
    for await (const { value, fds } of socket) {
      const buffer = DmaBuf.fromFd(fds[0]);
      await socket.send(value, [buffer]);
      buffer.close();
    }
  },
  hoard() {
    for (let round = 0; round < 20; round++) {
      const buffer = heap.allocSync(1);
      keep.push(buffer, buffer.map(), buffer.map().close(), ...FdSocket.pair());
    }
    parentPort.postMessage('ready');
    setInterval(() => {}, 1000);
  },
  async wait() {
    const [left, right] = FdSocket.pair();
    keep.push(left);
    const pending = right.receive();
    parentPort.postMessage('ready');
    await pending;
  },
  async busy() {
    const [left, right] = FdSocket.pair();
    parentPort.postMessage('ready');
    for (;;) {
      const buffer = heap.allocSync(1);
      // without descriptors: those a terminated thread had just been given are nobody's
      await left.send('b');
      buffer.map();
      await right.receive();
      buffer.dup().close();
      buffer.close();
    }
  },
  async alloc() {
    parentPort.postMessage('ready');
    for (;;)
      keep.push(...(await Promise.all([heap.alloc(1 << 20), heap.alloc(1 << 20), heap.alloc(1 << 20)])).slice(2));
  },
  async send() {
    const [left, right] = FdSocket.pair();
    keep.push(right);
    const buffer = heap.allocSync(1);
    parentPort.postMessage('ready');
    for (;;) await left.send('s'.repeat(1000), [buffer]);
  },
};
await modes[workerData.mode]();
