// SPDX-License-Identifier: MIT
// Takes the buffers of its parent, keeps some of them for a while, and gives it some of its own.
import { openHeap, parentSocket } from 'dmabuf';

const socket = parentSocket();
const heap = openHeap('ion', { heap: 'ion_dma_heap' });
const kept = [];

for await (const message of socket.buffers()) {
  const mappings = message.buffers.map((buffer) => buffer.map());
  kept.push({ message, mappings });
  if (kept.length > 4) {
    const [{ message: old, mappings: views }] = kept.splice(0, 1);
    for (const view of views) view.close();
    old.close();
  }
  const buffer = await heap.alloc(30_000);
  try {
    await socket.send({ back: 1 }, [buffer]);
  } catch (error) {
    // The parent is gone, as its end is: what it has sent may still be read.
    if (error.code !== 'EPIPE') throw error;
  } finally {
    buffer.close();
  }
}
process.exit(0);
