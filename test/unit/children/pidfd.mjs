// SPDX-License-Identifier: MIT
// Has a buffer, says which descriptor it is, and closes it when told to.
import { openHeap, PAGE_SIZE } from 'dmabuf';

const buffer = openHeap('memfd').allocSync(PAGE_SIZE, { name: 'theirs' });
buffer.write((bytes) => bytes.fill(0x55));
process.stdout.write(`${buffer.fd}\n`);
process.stdin.once('data', () => buffer.close());
