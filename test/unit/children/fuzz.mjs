// SPDX-License-Identifier: MIT
// Calls every function of the addon with anything: fuzz.mjs STEPS SEED; some make files where it runs. Tells how often each
// has succeeded; ends with 0 unless the process dies.
import { createRequire } from 'node:module';

const native = createRequire(import.meta.url)('../../../build/Release/dmabuf.node');
// adopt() and adoptNew() take a number away from whoever has it, Node itself included: not a crash of ours. pidfdGetFd() would have
// others' descriptors played with.
const { adopt: _, adoptNew: __, pidfdGetFd: ___, ...functions } = native;
delete functions.constants;
const names = Object.keys(functions).filter((name) => typeof functions[name] === 'function');
const buffers = [];
/** Handles that functions have given, some of them closed by now. */
const handles = [];
const succeeded = {};
let seed = Number(process.argv[3]);
const random = (count) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 8) % count;
};
const pick = (list) => list[random(list.length)];

function argument() {
  switch (random(10)) {
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
    case 6:
      return 1 + random(200);
    default:
      return pick(handles) ?? 1;
  }
}

function keep(handle) {
  if (typeof handle === 'number' && handle > 0) handles[random(60)] = handle;
}

/** A handle that is open, of a kind there is a way to make. */
function live(list, make) {
  while (list.length > 0) {
    const handle = pick(list);
    if (functions.fd(handle) >= 0) return handle;
    list.splice(list.indexOf(handle), 1);
  }
  for (const handle of [make()].flat()) {
    list.push(handle);
    keep(handle);
  }
  return list[0];
}
const memfds = [];
const sockets = [];
const pollers = [];
const memfd = () => live(memfds, () => functions.memfdAllocSync(12288, 'x'));
const socket = () => live(sockets, () => functions.socketPair(1));
const mapped = () => functions.map(memfd(), 0, 4096) instanceof ArrayBuffer && new Float64Array(native.numbers)[0];
let ends = [];
/** Two that are connected; of others one may be closed, or nobody's any more. */
function connected() {
  for (const end of ends) functions.close(end);
  ends = [functions.socketPair(1)].flat();
  return ends;
}
/** What the kernel of any machine can do. */
const right = {
  map: () => [memfd(), pick([0, 4096]), pick([1, 4096])],
  mapShared: () => [memfd(), 0, 4096],
  unmap: () => [mapped()],
  copy: () => [memfd(), random(4096), new ArrayBuffer(100)],
  fd: () => [memfd()],
  duplicate: () => [pick([memfd, socket])()],
  describe: () => [memfd()],
  socketSend: () => [connected()[0], new Uint8Array(10), 0, [functions.fd(memfd())].slice(random(2))],
  socketReceive: () => {
    const [sender, receiver] = connected();
    functions.socketSend(sender, new Uint8Array(10), 0, []);
    return [receiver, new Uint8Array(100), false];
  },
  pollerCreate: () => [functions.duplicate(socket()), () => 0],
  pollerUpdate: () => [pick(pollers), pick([0, 1, 2, 3]), pick([true, false])],
  pollerClose: () => [pick(pollers)],
};

const pending = [];
for (let step = 0; step < Number(process.argv[2]); step++) {
  const name = pick(names);
  // big ones only take time
  let args = Array.from({ length: random(6) }, argument);
  // One of them wrong at times.
  if (right[name] !== undefined && random(2) === 0) {
    args = right[name]();
    if (random(4) === 0) args[random(args.length)] = argument();
  }
  if (/^memfdAlloc/.test(name)) args[0] = pick([1, 4096, 12288, Number.NaN, 'x', 2 ** 60]);
  try {
    const result = functions[name](...args);
    if (name === 'unmap' ? result === 0 : typeof result !== 'number' || result >= 0)
      succeeded[name] = (succeeded[name] ?? 0) + 1;
    if (name === 'pollerCreate' && result > 0) pollers[random(20)] = result;
    if (result instanceof Promise) pending.push(result);
    else if (result instanceof ArrayBuffer) buffers[random(50)] = result;
    else if (Array.isArray(result)) for (const each of result) keep(each);
    else if (/^memfdAlloc|^duplicate$|^socketPair$/.test(name)) keep(result);
  } catch {
    // a TypeError is an answer, too
  }
  if (step % 500 === 0) {
    globalThis.gc?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
}
await Promise.allSettled(pending);
console.log(JSON.stringify({ wanted: Object.keys(right), succeeded }));
process.exit(0);
