// SPDX-License-Identifier: MIT
// A thread that fills the buffer it is given, or keeps buffers of its own until it is stopped.
import { parentPort, workerData } from 'node:worker_threads';
import { DmaBuf, openHeap } from 'dmabuf';

if (workerData.fd !== undefined) {
  const buffer = DmaBuf.fromFd(workerData.fd);
  const first = buffer.read((bytes) => bytes[0]);
  buffer.write((bytes) => bytes.fill(0x66));
  parentPort.postMessage({ inode: buffer.inode, first });
  buffer.close();
} else {
  globalThis.kept = ['ion', 'cma-mem'].map((kind) => {
    const buffer = openHeap(kind).allocSync(100_000);
    return { buffer, mapping: buffer.map() };
  });
  parentPort.postMessage('has them');
  setInterval(() => {}, 1000);
}
