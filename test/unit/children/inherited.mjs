// SPDX-License-Identifier: MIT
// Fills the buffers that come through the socket its parent gave it as descriptor 3.
import { DmaBuf, FdSocket } from 'dmabuf';

const socket = FdSocket.fromFd(3);
for await (const { value, fds } of socket) {
  const buffer = DmaBuf.fromFd(fds[0]);
  if (value === 'fill') buffer.write((bytes) => bytes.fill(0x33));
  buffer.close();
  await socket.send('filled');
}
