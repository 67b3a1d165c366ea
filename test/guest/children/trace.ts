// SPDX-License-Identifier: MIT
/**
 * Allocates and frees by a seeded trace, and prints how many allocations there were and how many failed:
 * trace.ts SEED CALLS KIND HEAP
 */
import { type DmaBuf, openHeap } from 'dmabuf';

const [seed = '', calls = '', kind = '', name = ''] = process.argv.slice(2);

/** xorshift32: the same numbers everywhere. */
let state = Number(seed);
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const KIB = 1024;
/** Bytes that may be wanted at a time: most of 64 MiB, so that what is free is in pieces. */
const MOST = 56 * KIB * KIB;

/** 64 KiB to 8 MiB, small ones as often as large ones. */
const anySize = () => Math.min((64 + random(64)) * KIB * 2 ** random(7), 8 * KIB * KIB);

/** What is wanted now; without a buffer where it was not to be had. The trace is the same with any heap. */
const wanted: { size: number; buffer: DmaBuf | undefined }[] = [];
let bytes = 0;
let allocations = 0;
let failed = 0;

using heap = openHeap(kind, { heap: name });
for (let call = 0; call < Number(calls); call++) {
  const size = anySize();
  if (bytes + size > MOST || random(2) === 0) {
    const [gone] = wanted.splice(random(wanted.length), 1);
    gone?.buffer?.close();
    bytes -= gone?.size ?? 0;
    continue;
  }
  allocations++;
  bytes += size;
  let buffer: DmaBuf | undefined;
  try {
    buffer = heap.allocSync(size);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOMEM') throw error;
    failed++;
  }
  wanted.push({ size, buffer });
}
for (const { buffer } of wanted) buffer?.close();
console.log(JSON.stringify({ allocations, failed }));
