// SPDX-License-Identifier: MIT
import { openHeap, PAGE_SIZE } from 'dmabuf';
import { check } from './check.ts';
import { remember } from './heaps.ts';
import { counted, described } from './kernel.ts';
import type { Peer } from './peer.ts';
import { line } from './print.ts';

const MINE = 0x11;
const THEIRS = 0x22;

/** Three pages, filled here, checked and changed by a second process, seen here again. */
export async function tourIon(second: Promise<Peer>): Promise<void> {
  using heap = openHeap('/dev/ion', { heap: 'ion_system_heap' });
  const buffer = remember(await heap.alloc(3 * PAGE_SIZE, { name: 'three-pages' }), heap.name);
  line('ION_IOC_ALLOC', `3 pages from ${heap.name}, descriptor ${buffer.fd}`);
  line('', described(buffer));
  line('', counted('ion'));

  using mapping = buffer.map();
  const bytes = new Uint8Array(mapping.buffer);
  check(
    bytes.every((byte) => byte === 0),
    'fresh memory is not zero',
  );
  buffer.write((all) => all.fill(MINE));
  line('this process', `pid ${process.pid}: zeroed memory, filled with 0x11`);

  const peer = await second;
  try {
    await peer.socket.send({ expect: MINE, page: 1, fill: THEIRS }, [buffer]);
    line('unix socket', `the descriptor goes to pid ${peer.pid} (SCM_RIGHTS)`);
    const answer = (await peer.answer()) as { fd: number; inode: number; verified: number };
    check(
      answer.verified === 3 * PAGE_SIZE,
      `the other process found ${answer.verified} of ${3 * PAGE_SIZE} bytes right`,
    );
    check(answer.inode === buffer.inode, 'the other process got another buffer');
    line('the other process', `descriptor ${answer.fd}, ${answer.verified} bytes verified, page 1 set to 0x22`);
  } finally {
    await peer.end();
  }

  const seen = [0, 1, 2].map((page) => bytes.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE));
  const expected = [MINE, THEIRS, MINE];
  check(
    seen.every((page, index) => page.every((byte) => byte === expected[index])),
    'the change of the other process is not seen here',
  );
  line('this process', 'sees 0x11, 0x22, 0x11 through the mapping it had all the time');
}
