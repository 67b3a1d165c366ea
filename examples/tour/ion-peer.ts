// SPDX-License-Identifier: MIT
/** The second process of the ION step: checks a buffer, changes one page, answers. */
import { FdSocket } from 'dmabuf';
import { receiveBuffer } from './peer.ts';

const PAGE = 4096;

using socket = await FdSocket.connect(process.argv[2] ?? '');
const { value, buffer } = await receiveBuffer(socket);
const { expect, page, fill } = value as { expect: number; page: number; fill: number };

const verified = buffer.read((bytes) => bytes.reduce((count, byte) => count + Number(byte === expect), 0));
buffer.write((bytes) => bytes.fill(fill, page * PAGE, (page + 1) * PAGE));

await socket.send({ fd: buffer.fd, inode: buffer.inode, verified });
buffer.close();
