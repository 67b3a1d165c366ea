// SPDX-License-Identifier: MIT
// Sends broken messages to the listener at argv[2], each on a connection of its own: hostile.mjs PATH TYPE COUNT SEED.
import { openSync } from 'node:fs';
import { FdSocket, openHeap } from 'dmabuf';

const [path, type, count, seed] = process.argv.slice(2);
let state = Number(seed);
const random = (below) => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return (state >>> 8) % below;
};
const pick = (list) => list[random(list.length)];

const [own, other] = FdSocket.pair();
const numbers = [openHeap('memfd').allocSync(1).takeFd(), openSync('/dev/null', 'r'), other.takeFd(), own.takeFd()];
const someFds = (most) => Array.from({ length: random(most + 1) }, () => pick(numbers));

const bodies = [
  () => Buffer.from('{"a":1}'),
  () => Buffer.from('{"a":'),
  () => Buffer.alloc(0),
  () => Buffer.alloc(1 + random(3000), '['),
  () => Buffer.concat([Buffer.alloc(1000, '['), Buffer.alloc(1000, ']')]),
  () => Buffer.from(Array.from({ length: random(40) }, () => random(256))),
  () => Buffer.from([1, 0, 0, 0]),
  () => Buffer.from('{"__proto__":{"toJSON":1},"constructor":null}'),
];
const lengths = [0, 1, 3, 4, 7, 100, 65536, 16 << 20, (16 << 20) + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const counts = [0, 1, 2, 252, 253, 254, 255, 256, 32768, 65535];

/** A message, broken somewhere as a rule, and the descriptors that come with it. */
function message() {
  const body = pick(bodies)();
  const fds = random(100) === 0 ? someFds(253) : random(3) === 0 ? someFds(4) : [];
  const bytes = Buffer.alloc(8 + body.length);
  bytes.writeUInt32LE(random(3) === 0 ? pick(lengths) : body.length, 0);
  bytes.writeUInt16LE(random(3) === 0 ? pick(counts) : fds.length, 4);
  bytes[6] = random(3) === 0 ? random(256) : random(4);
  bytes[7] = pick([0, 0, 0, 1, random(256)]);
  body.copy(bytes, 8);
  for (let flips = random(3); flips > 0; flips--) bytes[random(bytes.length)] = random(256);
  return [bytes, fds];
}

const gone = ['EPIPE', 'ECONNRESET', 'ETOOMANYREFS'];
const idle = [];
for (let sent = 0; sent < Number(count); ) {
  const socket = await FdSocket.connect(path, { type, format: 'raw' });
  try {
    for (let more = 1 + random(3); more > 0 && sent < Number(count); more--, sent++) {
      const [bytes, fds] = message();
      const cut = random(4) === 0 ? random(bytes.length) : bytes.length;
      if (cut > 0) await socket.send(bytes.subarray(0, cut), fds);
      // The rest comes late, or never; another message is in the middle of this one.
      if (cut < bytes.length && random(2) === 0)
        await socket.send(bytes.subarray(cut), random(4) === 0 ? someFds(3) : []);
    }
  } catch (error) {
    if (!gone.includes(error.code)) throw error;
    sent++;
  }
  // Some say no more, and stay.
  if (random(100) === 0) idle.push(socket);
  if (idle.length > 50) idle.shift().close();
  if (!idle.includes(socket)) socket.close();
}
process.exit(0);
