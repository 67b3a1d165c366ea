// SPDX-License-Identifier: MIT
// Lends buffers of pools to another process, gives it more, and takes what that gives. After each death of the other it
// checks that all is home, says so, and waits for a line to start the next one.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { BufferPool, liveBuffers, openHeap, spawnWithSocket } from 'dmabuf';

const taker = fileURLToPath(new URL('./taker.mjs', import.meta.url));
const LENGTH = 20_000;
const COUNT = 4;

const heaps = [
  openHeap('ion', { heap: 'ion_system_heap' }),
  openHeap('ion', { heap: 'ion_dma_heap' }),
  openHeap('cma-mem'),
];
const pools = await Promise.all(heaps.map((heap) => BufferPool.create(heap, LENGTH, { count: COUNT })));
const own = liveBuffers().length;
const orders = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Whether an error says that the other is gone: any other is a mistake. */
const isGone = ({ code }) => ['EPIPE', 'ERR_DMABUF_CLOSED'].includes(code);

async function give(socket, long, signal) {
  for (let round = 1; ; round++) {
    const at = round % heaps.length;
    const lent = await pools[at].acquire({ signal });
    const buffer = await heaps[at].alloc(1 + ((round * 7919) % 100_000));
    try {
      lent.buffer.write((bytes) => bytes.fill(round));
      await lent.send(socket, { round });
      await socket.send({ given: round }, [buffer, buffer]);
      // Longer than the kernel takes at once: its descriptors are there before the rest of it.
      if (round % 4 === 0) await socket.send(Buffer.alloc(long), [buffer]);
    } finally {
      buffer.close();
      lent.release();
    }
    if (round === 2) console.log('busy');
  }
}

async function take(socket) {
  for await (const message of socket.buffers()) {
    for (const buffer of message.buffers) buffer.read((bytes) => bytes[0]);
    message.close();
  }
}

console.log('ready');
for (let type = 'stream'; !(await orders.next()).done; type = type === 'stream' ? 'seqpacket' : 'stream') {
  const { child, socket } = spawnWithSocket(process.execPath, [taker], { stdio: 'inherit' }, { type });
  console.log(`started ${child.pid}`);
  const ended = once(child, 'exit');
  const stop = new AbortController();
  // A record has to fit into the socket's buffer whole.
  const giving = give(socket, type === 'stream' ? 500_000 : 50_000, stop.signal).catch((error) => {
    if (!isGone(error) && !stop.signal.aborted) throw error;
  });
  await take(socket);
  stop.abort();
  await giving;
  socket.close();
  assert.deepEqual(await ended, [null, 'SIGKILL']);
  for (const pool of pools) {
    for (let tries = 0; pool.available < COUNT && tries < 1000; tries++) await sleep(5);
    assert.equal(pool.available, COUNT);
  }
  assert.equal(liveBuffers().length, own);
  console.log('home');
}
