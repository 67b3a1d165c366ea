// SPDX-License-Identifier: MIT
// Answers messages of whoever has started it, a process or a thread, by spawnWithSocket or workerWithSocket:
// parent.mjs [OPTIONS]; a thread has them as workerData. 'fill' fills its buffers, 'keep' keeps them and what is lent.
// With ignores it never looks at its socket, with startsFirst it does so after it has started a thread like that, and
// with startsPlain after one that was not given any has looked for it; its answers say what came of that. With twice it
// has loaded the library before, as another version of it or a test runner does.
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { parentSocket, workerWithSocket } from 'dmabuf';

const { ignores, startsFirst, startsPlain, isPlain, twice, ...options } = isMainThread
  ? JSON.parse(process.argv[2] ?? '{}')
  : (workerData ?? {});
if (ignores) await new Promise(() => setInterval(() => {}, 1000));
if (startsFirst) workerWithSocket(new URL(import.meta.url), { workerData: {}, execArgv: [] }).socket.close();
if (isPlain) {
  try {
    parentSocket();
    parentPort.postMessage('has a socket');
  } catch ({ code }) {
    parentPort.postMessage(code);
  }
  process.exit();
}
let plain;
if (startsPlain) {
  [plain] = await once(
    new Worker(new URL(import.meta.url), { workerData: { isPlain: true }, execArgv: [] }),
    'message',
  );
}
const ofAnother = twice ? await import(new URL('./children.js?again', import.meta.resolve('dmabuf'))) : undefined;
const socket = (ofAnother?.parentSocket ?? parentSocket)(options);
let again;
try {
  parentSocket();
} catch ({ code, message }) {
  again = { code, message };
}
const kept = [];
for await (const message of socket.buffers()) {
  const { value, buffers } = message;
  if (value === 'fill') for (const buffer of buffers) buffer.write((bytes) => bytes.fill(0x66));
  if (value === 'keep') kept.push(message);
  else if (value === 'let go') for (const one of kept.splice(0)) one.close();
  else message.close();
  await socket.send({ value, sizes: buffers.map(({ size }) => size), type: socket.type, again, plain });
}
