// SPDX-License-Identifier: MIT
/** Sends each message of its parent back, or with "frames" answers those that bring buffers, for here.ts. @module */
import { closeSync } from 'node:fs';
import { parentSocket } from 'dmabuf';

const socket = parentSocket();
if (process.argv[2] === 'frames') {
  for await (using message of socket.buffers()) {
    const [frame] = message.buffers;
    const look = (bytes: Uint8Array) => (bytes[0] ?? 0) + (bytes.at(-1) ?? 0);
    await socket.send(message.value === 'look' ? frame?.read(look) : frame?.size);
  }
}
for await (const { value, fds } of socket) {
  await socket.send(value, fds);
  for (const fd of fds) closeSync(fd);
}
