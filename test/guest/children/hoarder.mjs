// SPDX-License-Identifier: MIT
// Allocates one buffer of as many bytes of the system heap as its argument says, and keeps it.
import { once } from 'node:events';
import { openHeap } from 'dmabuf';

const heap = openHeap('ion', { heap: 'ion_system_heap' });
process.stdout.write('ready\n');
await once(process.stdin, 'data');
const buffer = heap.allocSync(Number(process.argv[2]));
process.stdout.write('done\n');
await once(process.stdin, 'end');
buffer.close();
