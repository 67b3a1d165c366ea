// SPDX-License-Identifier: MIT
// Stops threads in the middle of calls of the addon that make promises: stopped.mjs THREADS. Ends with 0 unless the
// process dies.
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

if (isMainThread) {
  const threads = Number(process.argv[2]);
  for (let thread = 0; thread < threads; thread++) {
    const worker = new Worker(new URL(import.meta.url), { execArgv: [] });
    await new Promise((resolve) => worker.once('message', resolve));
    await sleep(thread);
    await worker.terminate();
  }
  console.log(`${threads} threads stopped`);
} else {
  const native = createRequire(import.meta.url)('../../../build/Release/dmabuf.node');
  // V8 looks whether it is to stop at the end of a loop: nearly always that is asked for before a call and not after it.
  const allocate = new Function('native', `for (;;) { ${"native.memfdAlloc(0, '');".repeat(50)} }`);
  parentPort.postMessage('ready');
  allocate(native);
}
