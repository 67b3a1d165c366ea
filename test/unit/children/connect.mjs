// SPDX-License-Identifier: MIT
// Takes one buffer from the socket at argv[2], changes the page it is told to, and answers.
import { DmaBuf, FdSocket } from 'dmabuf';

const socket = await FdSocket.connect(process.argv[2]);
for await (const { value, fds } of socket) {
  const buffer = DmaBuf.fromFd(fds[0]);
  const was = buffer.write((bytes) => {
    const first = bytes[0];
    bytes.fill(0x22, value.change * 4096, (value.change + 1) * 4096);
    return first;
  });
  await socket.send({ name: buffer.name, was, inode: buffer.inode });
  buffer.close();
  socket.close();
}
