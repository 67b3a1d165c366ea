// SPDX-License-Identifier: MIT
/**
 * Two processes that pass frames: one draws, the other looks at them, and three buffers go round between them.
 *
 *     node examples/frames.ts
 *
 * Where a machine has no heap of DMA memory, memfds stand in.
 *
 * @module
 */
import { BufferPool, openHeap, parentSocket, spawnWithSocket } from 'dmabuf';

const [width, height] = [640, 360];

const COUNT = 100;

interface Frame {
  number: number;
}

/** This process draws. Where the other is slow, acquire() waits. */
async function produce(): Promise<void> {
  using heap = openHeap({ dma: false });
  using pool = await BufferPool.create(heap, width * height * 4, { count: 3, name: 'frame' });
  const { socket } = spawnWithSocket(process.execPath, [...process.execArgv, import.meta.filename, 'consumer'], {
    stdio: 'inherit',
  });
  for (let number = 0; number < COUNT; number++) {
    using frame = await pool.acquire();
    frame.buffer.write((bytes) => bytes.fill(number));
    await frame.send(socket, { number } satisfies Frame);
  }
  const answer = await socket.receive();
  console.log('the other process saw', answer?.value);
  socket.close();
}

/** The other one looks. Each frame goes home at the end of its turn. */
async function consume(): Promise<void> {
  using socket = parentSocket();
  const seen = { frames: 0, buffers: 0, wrong: 0 };
  const inodes = new Set<number>();
  for await (using message of socket.buffers()) {
    const { number } = message.value as Frame;
    const [frame] = message.buffers;
    if (frame === undefined) continue;
    inodes.add(frame.inode);
    seen.frames++;
    seen.wrong += frame.read((bytes) => bytes[0] === number % 256 && bytes.at(-1) === number % 256) ? 0 : 1;
    if (number === COUNT - 1) await socket.send({ ...seen, buffers: inodes.size });
  }
}

if (process.argv[2] === 'consumer') await consume();
else await produce();
