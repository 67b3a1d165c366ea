// SPDX-License-Identifier: MIT
// Allocates, maps, exports and passes buffers until it is killed: some are in its hands then, some in
// mappings, some on their way through sockets, one of which carries its own other end.
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { CmaMem, DmaBuf, Exporter, FdSocket, openHeap } from 'dmabuf';

const exporter = Exporter.open();
const heaps = [
  openHeap('ion', { heap: 'ion_system_heap' }),
  openHeap('ion', { heap: 'ion_dma_heap' }),
  openHeap('cma-mem'),
];
const kept = [];

function keep(...things) {
  kept.push(...things);
  while (kept.length > 24) kept.splice((kept.length * 7) % 24, 1)[0].close();
}

process.stdout.write('ready\n');
await once(process.stdin, 'data');

for (let round = 1; ; round++) {
  const heap = heaps[round % heaps.length];
  const buffer = await heap.alloc(1 + ((round * 7919) % 300_000), { name: `round ${round}`, cached: round % 2 === 0 });
  buffer.write((bytes) => bytes.fill(round));
  keep(buffer, buffer.map(), exporter.buffer(), exporter.map());

  const pending = heaps.map((each) => each.alloc(50_000));

  const cma = CmaMem.open();
  const region = await cma.allocate(100_000);
  keep(region.map(), region.export(), cma);

  // Never received: on their way when the end comes.
  const [left, right] = FdSocket.pair();
  await left.send('lost', [buffer, exporter.buffer()]);
  const [inner, other] = FdSocket.pair();
  const carried = other.takeFd();
  await left.send('a socket', [carried, buffer]);
  keep(left, inner);
  if (round % 2 === 0) {
    const message = await right.receive();
    keep(...message.fds.map((fd) => DmaBuf.fromFd(fd)));
  }
  keep(right, FdSocket.fromFd(carried));
  keep(...(await Promise.all(pending)));
  await turn();
}
