// SPDX-License-Identifier: MIT
// Has sockets and buffers open, waits for nothing, and so ends by itself.
import { FdSocket, openHeap } from 'dmabuf';

const [left, right] = FdSocket.pair();
const buffer = openHeap('memfd').allocSync(1);
await left.send(1, [buffer]);
await right.receive();
buffer.map();
