// SPDX-License-Identifier: MIT
/** Sends each message of its parent back, or with "frames" looks at the buffers and says so, for here.ts. @module */
import { closeSync } from 'node:fs';
import { parentSocket } from 'dmabuf';

const socket = parentSocket();
if (process.argv[2] === 'frames') {
  for await (using message of socket.buffers()) {
    await socket.send(message.buffers[0]?.read((bytes) => (bytes[0] ?? 0) + (bytes.at(-1) ?? 0)));
  }
}
for await (const { value, fds } of socket) {
  await socket.send(value, fds);
  for (const fd of fds) closeSync(fd);
}
