// SPDX-License-Identifier: MIT
/** The second process of the ION step: checks a buffer, changes one page, answers. */
import { FdSocket, PAGE_SIZE } from 'dmabuf';
import { receiveBuffer } from './peer.ts';

using socket = await FdSocket.connect(process.argv[2] ?? '');
const { value, buffer } = await receiveBuffer(socket);
const { expect, page, fill } = value as { expect: number; page: number; fill: number };

const verified = buffer.read((bytes) => bytes.reduce((count, byte) => count + Number(byte === expect), 0));
buffer.write((bytes) => bytes.fill(fill, page * PAGE_SIZE, (page + 1) * PAGE_SIZE));

await socket.send({ fd: buffer.fd, inode: buffer.inode, verified });
buffer.close();
