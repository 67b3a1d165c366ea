// SPDX-License-Identifier: MIT
/**
 * Maps a page until that is refused, and closes it all, three times: ends with 0 and tells as JSON how many there were,
 * and how many showed the buffer still.
 */
import { openSync, readSync } from 'node:fs';
import { openHeap, PAGE_SIZE } from 'dmabuf';

// All memory this takes is taken before there are many mappings.
const maps = openSync('/proc/self/maps');
const chunk = Buffer.alloc(1 << 20);
function shown() {
  let count = 0;
  for (let at = 0, read; ; at += read) {
    read = readSync(maps, chunk, 0, chunk.length, at);
    if (read === 0) return count;
    // A line cut in two by the end of a chunk is one that is not counted; none is what matters.
    for (let i = chunk.indexOf('/memfd:'); i >= 0 && i < read; i = chunk.indexOf('/memfd:', i + 1)) count++;
  }
}
shown();
const buffer = openHeap('memfd').allocSync(PAGE_SIZE);
let message;
/** A function of its own, so that nothing of a round before is on the stack. */
function round() {
  const all = [];
  try {
    for (;;) all.push(buffer.map());
  } catch (error) {
    message = error.message;
  }
  for (const mapping of all) mapping.close();
  return { made: all.length, left: shown() };
}
const rounds = [round(), round(), round()];
buffer.close();
console.log(JSON.stringify({ rounds, message }));
