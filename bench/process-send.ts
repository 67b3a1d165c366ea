// SPDX-License-Identifier: MIT
/**
 * Hands frames over by their bytes, as Node.js does it, for here.ts to be compared with: for each line
 * "frame BYTES COUNT" on standard input it does that COUNT times and prints the nanoseconds of one.
 *
 * @module
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

if (process.send) {
  process.on('message', (bytes: Uint8Array) => process.send?.((bytes[0] ?? 0) + (bytes.at(-1) ?? 0)));
} else {
  const child = fork(import.meta.filename, { serialization: 'advanced' });
  for await (const line of createInterface({ input: process.stdin })) {
    const [size, count] = line.split(' ').slice(1).map(Number) as [number, number];
    const frame = new Uint8Array(size);
    const start = process.hrtime.bigint();
    for (let i = 0; i < count; i++) {
      child.send(frame);
      await once(child, 'message');
    }
    console.log((Number(process.hrtime.bigint() - start) / count).toFixed(1));
  }
  child.disconnect();
}
