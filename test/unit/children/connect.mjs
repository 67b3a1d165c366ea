// SPDX-License-Identifier: MIT
// Takes one buffer from the socket at argv[2], changes the page it is told to, and answers.
import { DmaBuf, FdSocket, PAGE_SIZE } from 'dmabuf';

const socket = await FdSocket.connect(process.argv[2]);
for await (const { value, fds } of socket) {
  const buffer = DmaBuf.fromFd(fds[0]);
  const was = buffer.write((bytes) => {
    const first = bytes[0];
    bytes.fill(0x22, value.change * PAGE_SIZE, (value.change + 1) * PAGE_SIZE);
    return first;
  });
  await socket.send({ name: buffer.name, was, inode: buffer.inode });
  buffer.close();
  socket.close();
}
