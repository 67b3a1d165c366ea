// SPDX-License-Identifier: MIT
// Has more descriptors on their way than a user may (as many as RLIMIT_NOFILE), in messages that wait.
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { FdSocket, openHeap } from 'dmabuf';

// root is allowed any number
if (process.getuid() === 0) process.setuid(65534);
const buffer = openHeap('memfd').allocSync(1);
const [left, right] = FdSocket.pair();
const [other, unread] = FdSocket.pair();
// The socket is full: a message with a descriptor waits.
const full = left.send('f'.repeat(1 << 20));
const refused = assert.rejects(left.send('refused', [buffer]), {
  code: 'ETOOMANYREFS',
  errno: -109,
  message: /peer has to receive/,
});
await assert.rejects(
  async () => {
    for (;;) await other.send('x', [buffer]);
  },
  { code: 'ETOOMANYREFS' },
);
assert.equal((await right.receive()).value.length, 1 << 20);
await full;
await refused;
unread.close();
await left.send('fine', [buffer]);
const { value, fds } = await right.receive();
assert.equal(value, 'fine');
fds.forEach(closeSync);
