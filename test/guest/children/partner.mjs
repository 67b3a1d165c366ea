// SPDX-License-Identifier: MIT
// The second process: does to one buffer what the socket at argv[2] says, and answers each time.
import { DmaBuf, FdSocket } from 'dmabuf';

const socket = await FdSocket.connect(process.argv[2]);
let buffer;

const jobs = {
  keep(_, [fd]) {
    buffer = DmaBuf.fromFd(fd);
    return { size: buffer.size, inode: buffer.inode, name: buffer.name };
  },
  sum: ([start, end]) => new Uint8Array(buffer.copy()).subarray(start, end).reduce((sum, byte) => sum + byte, 0),
  fill: ([start, end, value]) => buffer.write((bytes) => bytes.fill(value, start, end) && 'filled'),
  text: (length) => Buffer.from(buffer.copy({ length })).toString('latin1'),
  drop: () => buffer.close() ?? 'dropped',
  firstBytes: (_, fds) =>
    fds.map((fd) => {
      const each = DmaBuf.fromFd(fd);
      const first = each.read((bytes) => bytes[0]);
      each.close();
      return first;
    }),
};

for await (const { value, fds } of socket) {
  const [name, argument] = Object.entries(value)[0];
  if (name === 'giveBack') {
    await socket.send('here it is', [buffer]);
    continue;
  }
  let answer;
  try {
    answer = jobs[name](argument, fds);
  } catch (error) {
    answer = { error: error.code };
  }
  await socket.send(answer);
}
socket.close();
