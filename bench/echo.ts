// SPDX-License-Identifier: MIT
/** Sends each message of its parent back, for here.ts. @module */
import { closeSync } from 'node:fs';
import { parentSocket } from 'dmabuf';

const socket = parentSocket();
for await (const { value, fds } of socket) {
  await socket.send(value, fds);
  for (const fd of fds) closeSync(fd);
}
