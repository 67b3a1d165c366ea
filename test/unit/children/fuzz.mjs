// SPDX-License-Identifier: MIT
// Calls every function of the addon with anything; some make files where it runs. Ends with 0 unless the process dies.
import { createRequire } from 'node:module';

const native = createRequire(import.meta.url)('../../../build/Release/dmabuf.node');
// adopt() and adoptNew() take a number away from whoever has it, Node itself included: not a crash of ours. pidfdGetFd() would have
// others' descriptors played with.
const { adopt: _, adoptNew: __, pidfdGetFd: ___, ...functions } = native;
delete functions.constants;
const names = Object.keys(functions).filter((name) => typeof functions[name] === 'function');
const buffers = [];
let seed = Number(process.argv[3] ?? 1);
const random = (count) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 8) % count;
};
const pick = (list) => list[random(list.length)];

function argument() {
  switch (random(8)) {
    case 0:
      return pick([undefined, null, true, false, 1n, Symbol('x'), () => 0, {}, [], [1e9], new Date(0)]);
    case 1:
      return pick([-1, 0.5, Number.NaN, Infinity, -0, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 64, 1e300]);
    case 2:
      return pick(['', 'x', '/dev/null', '/dev/zero', '\0', 'ü'.repeat(200), '/tmp']);
    case 3:
      return pick([new ArrayBuffer(0), new ArrayBuffer(100), new Uint8Array(10), new Float64Array(3), Buffer.alloc(9)]);
    case 4:
      return pick(buffers) ?? 4096;
    case 5:
      return pick([0, 1, 2, 4096, 8192, 65536]);
    default:
      return 1 + random(200);
  }
}

const pending = [];
for (let step = 0; step < Number(process.argv[2]); step++) {
  const name = pick(names);
  // big ones only take time
  const args = Array.from({ length: random(6) }, argument);
  if (/^memfdAlloc/.test(name)) args[0] = pick([1, 4096, 12288, Number.NaN, 'x', 2 ** 60]);
  try {
    const result = functions[name](...args);
    if (result instanceof Promise) pending.push(result);
    else if (result?.buffer instanceof ArrayBuffer && buffers.length < 50) buffers.push(result.buffer);
  } catch {
    // a TypeError is an answer, too
  }
  if (step % 500 === 0) {
    globalThis.gc?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
}
await Promise.allSettled(pending);
process.exit(0);
