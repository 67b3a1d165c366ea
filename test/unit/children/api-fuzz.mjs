// SPDX-License-Identifier: MIT
/**
 * Calls everything the library offers with anything, in any order: api-fuzz.mjs STEPS [SEED [shrink]]. Ends with 0 where
 * nothing was left behind and every error was one of those that are documented; the last steps stand in the file `steps`
 * of its folder, for when the process dies. With `shrink` it looks, long, for fewer steps that fail.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, writeSync } from 'node:fs';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import * as library from 'dmabuf';
import { IonClient } from 'dmabuf/ion-handles';
import fc from 'fast-check';
import { beginVideo, videoCalls, videoKinds } from './video-calls.mjs';

const {
  BufferPool,
  CmaMem,
  DmaBuf,
  DmaBufError,
  dmabufs,
  Exporter,
  FdSocket,
  heapStats,
  heaps,
  liveBuffers,
  openHeap,
  rows,
} = library;
const { PAGE_SIZE, SyncFile } = library;

/** Steps of a run, after which nothing may be left of it. */
const STEPS_OF_A_RUN = 100;
/** One step in so many starts a thread that does the same, and stops it. */
const WORKER_IN = 4000;

const reason = new Error('mine');
const usable = heaps().filter(({ error }) => error === undefined);

// -- what is passed ---------------------------------------------------------------------------------------------------

const kinds = [
  ...videoKinds,
  'heaps',
  'buffers',
  'mappings',
  'accesses',
  'syncFiles',
  'sockets',
  'servers',
  'pools',
  'pooled',
  'memory',
  'fds',
];

const { command } = fc.letrec((tie) => ({
  number: fc.oneof(
    fc.constantFrom(
      0,
      1,
      -1,
      0.5,
      -0,
      Number.NaN,
      Infinity,
      -Infinity,
      2 ** 31,
      2 ** 32,
      2 ** 45,
      2 ** 53,
      2 ** 64,
      1e300,
    ),
    fc.constantFrom(1, 2, 3).map((pages) => pages * PAGE_SIZE),
    fc.integer({ min: 1, max: 5 * PAGE_SIZE }),
  ),
  oddity: fc.constantFrom(undefined, null, true, false, 1n, 2n ** 64n, '', 'x', '\0', 'ü'.repeat(40), [], {}, [[]]),
  word: fc.constantFrom(
    'read',
    'write',
    'readwrite',
    'memfd',
    'ion',
    'dma-heap',
    'RGB3',
    'cma-mem',
    '/dev/video0',
    '/dev/null',
    '/dev/nowhere',
  ),
  reference: fc.record({ of: fc.constantFrom(...kinds), n: fc.nat(20) }),
  range: fc.record({ offset: tie('value'), length: tie('value') }, { requiredKeys: [] }),
  options: fc.record(
    {
      name: fc.oneof(fc.constant('named'), tie('value')),
      cached: fc.oneof(fc.boolean(), tie('value')),
      planes: fc.oneof(fc.array(fc.record({ stride: tie('number') }), { maxLength: 2 }), tie('value')),
      length: tie('number'),
      signal: fc.constantFrom('abort', 'never', 'no signal'),
      contiguous: fc.boolean(),
      wrong: tie('value'),
    },
    { requiredKeys: [] },
  ),
  // An object that does something when it is looked at.
  trap: fc.record({ trap: fc.constantFrom('offset', 'length', 'name', 'stride', 'signal'), inner: tie('command') }),
  value: fc.oneof(
    { maxDepth: 2 },
    tie('number'),
    tie('oddity'),
    tie('word'),
    tie('reference'),
    tie('range'),
    tie('options'),
    tie('trap'),
  ),
  command: fc.record({
    call: fc.nat(),
    on: fc.nat(20),
    values: fc.array(tie('value'), { maxLength: 3 }),
    inner: fc.option(tie('command'), { maxDepth: 2, freq: 1 }),
    collect: fc.constantFrom(...Array(18).fill(''), 'minor', 'major'),
    wait: fc.constantFrom(...Array(9).fill(false), true),
  }),
}));

// -- what may come of it ----------------------------------------------------------------------------------------------

const argumentCodes = ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE'];

function checkDocumented(error) {
  if (error === reason || error?.name === 'AbortError' || error?.name === 'DataCloneError') return;
  if (error instanceof DmaBufError && /^ERR_DMABUF_/.test(error.code)) return;
  if ((error instanceof TypeError || error instanceof RangeError) && argumentCodes.includes(error.code)) return;
  if (error instanceof Error && error.errno < 0 && /^E[A-Z\d]+$/.test(error.code) && error.syscall) return;
  throw new Error('this error is none of those that are documented', { cause: error });
}

// -- one run ----------------------------------------------------------------------------------------------------------

class World {
  heaps = [];
  buffers = [];
  mappings = [];
  accesses = [];
  syncFiles = [];
  sockets = [];
  pools = [];
  pooled = [];
  servers = [];
  memory = [];
  fds = [];
  frames = [];
  canvases = [];
  streams = [];
  sinks = [];
  videos = [];
  pending = [];
  depth = 0;

  pick(kind, n) {
    const list = this[kind];
    return list.length === 0 ? undefined : list[n % list.length];
  }

  keep(kind, thing) {
    if (thing === undefined) return;
    const list = this[kind];
    // A few of each are enough; those that drop out are the collector's.
    if (kind !== 'fds' && list.length >= 8) list[(list.length * 7) % 8] = thing;
    else list.push(thing);
  }

  /** The value a description stands for. */
  make(value) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return Array.isArray(value) ? value.map((one) => this.make(one)) : value;
    }
    if ('of' in value) return this.pick(value.of, value.n);
    if ('trap' in value) {
      const run = () => this.step(value.inner);
      return {
        get [value.trap]() {
          run();
          return PAGE_SIZE;
        },
      };
    }
    const made = Object.fromEntries(Object.entries(value).map(([key, one]) => [key, this.make(one)]));
    if (made.signal === 'abort') made.signal = AbortSignal.abort(reason);
    else if (made.signal === 'never') made.signal = new AbortController().signal;
    return made;
  }

  /** What a callback does: something else, in the middle of this. */
  callback(inner) {
    return (...args) => {
      if (inner) this.step(inner);
      const [bytes] = args;
      if (bytes instanceof Uint8Array) bytes.fill(7, 0, Math.min(bytes.length, 64));
      if (inner?.wait) throw reason;
      return inner?.on === 3 ? nextTurn(5) : 5;
    };
  }

  step(command) {
    if (this.depth > 3) return;
    this.depth++;
    try {
      const call = calls[command.call % calls.length];
      log(
        `${' '.repeat(this.depth)}${call.name} ${JSON.stringify(command.values, (_, v) => (typeof v === 'bigint' ? `${v}n` : v))?.slice(0, 200)}`,
      );
      let result;
      try {
        result = call(
          this,
          command,
          command.values.map((value) => this.make(value)),
        );
      } catch (error) {
        checkDocumented(error);
      }
      if (result instanceof Promise) this.pending.push(result.catch(checkDocumented));
      if (command.collect) globalThis.gc?.({ type: command.collect });
    } finally {
      this.depth--;
    }
  }

  async end() {
    this.closeAll();
    await Promise.all(this.pending);
    // What the last promises brought.
    this.closeAll();
  }

  closeAll() {
    for (const kind of kinds) {
      for (const thing of this[kind]) {
        if (kind === 'fds') closeSync(thing);
        else (thing.close ?? thing.release)?.call(thing);
      }
      this[kind] = [];
    }
  }
}

/** Numbers that the world owns, and may give away. */
function takeOne(world, n) {
  if (world.fds.length === 0) return undefined;
  const [fd] = world.fds.splice(n % world.fds.length, 1);
  return fd;
}

/** Gives a number to what takes it over, or keeps it where that throws. */
function giveOne(world, n, to) {
  const fd = takeOne(world, n);
  if (fd === undefined) return undefined;
  try {
    return to(fd);
  } catch (error) {
    world.fds.push(fd);
    throw error;
  }
}

/** With nothing more that this process can open. */
function withoutDescriptors(body) {
  const taken = [];
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'));
  } catch {
    try {
      return body();
    } finally {
      taken.forEach(closeSync);
    }
  }
}

/**
 * Where a socket is: in the folder of this run, as root may make one anywhere, which the fuzzers of other processes would
 * find. /dev/null is no socket, and stays.
 */
function inFolder(path) {
  return typeof path === 'string' && path !== '/dev/null' ? path.replace(/^\/dev\//, '') : path;
}

/** What gives numbers away: in a thread that is stopped they are nobody's. */
const GIVING = ['takeFd', 'takeSocket', 'receive', 'buffers'];

const calls = [
  function list(_, __, [options]) {
    heaps(options);
    heapStats();
    liveBuffers();
  },
  function machine(_, { on }) {
    if (on === 0) dmabufs();
  },
  function open(w, _, [which, options]) {
    w.keep('heaps', openHeap(which, options));
  },
  function openOne(w, { on }) {
    const { path, name } = usable[on % usable.length];
    w.keep('heaps', openHeap(path, { heap: name }));
  },
  function allocSync(w, { on }, [length, options]) {
    w.keep('buffers', w.pick('heaps', on)?.allocSync(length, options));
  },
  function allocOne(w, { on }) {
    w.keep('buffers', w.pick('heaps', on)?.allocSync(1 + on * 1000, { name: 'one', planes: [{ stride: 1 }] }));
  },
  async function alloc(w, { on }, [length, options]) {
    w.keep('buffers', await w.pick('heaps', on)?.alloc(length, options));
  },
  async function allocMany(w, { on }) {
    const heap = w.pick('heaps', on);
    if (heap === undefined) return;
    const all = await Promise.allSettled([heap.alloc(1), heap.alloc(PAGE_SIZE), heap.alloc(70000)]);
    for (const { status, value, reason: why } of all) {
      if (status === 'fulfilled') w.keep('buffers', value);
      else checkDocumented(why);
    }
  },
  function stats(w, { on }) {
    w.pick('heaps', on)?.stats();
  },
  function closeHeap(w, { on }) {
    w.pick('heaps', on)?.close();
  },
  function map(w, { on }, [range]) {
    w.keep('mappings', w.pick('buffers', on)?.map(range));
  },
  function mapAll(w, { on }) {
    w.keep('mappings', w.pick('buffers', on)?.map());
  },
  function mapShared(w, { on }, [range]) {
    const shared = w.pick('buffers', on)?.mapShared(range);
    if (shared) Atomics.add(new Uint8Array(shared), 0, 1);
  },
  function read(w, { on, inner }, values) {
    const result = w
      .pick('buffers', on)
      ?.[['read', 'write', 'readwrite'][on % 3]](on === 19 ? values[0] : w.callback(inner));
    return result;
  },
  function accessSync(w, { on }, [direction]) {
    w.keep('accesses', w.pick('buffers', on)?.accessSync(on < 5 ? direction : 'write'));
  },
  async function access(w, { on }, [direction, options]) {
    w.keep('accesses', await w.pick('buffers', on)?.access(on < 5 ? direction : 'read', options));
  },
  function useAccess(w, { on }, [plane, width]) {
    const one = w.pick('accesses', on);
    if (one === undefined) return;
    one.bytes.fill(1, 0, 10);
    for (const row of one.rows(plane, width)) if (row.fill(2)) break;
  },
  function closeAccess(w, { on }) {
    w.pick('accesses', on)?.close();
  },
  function rowsOf(w, { on }, [plane, width]) {
    const bytes = w.pick('mappings', on)?.buffer;
    if (bytes?.byteLength) for (const row of rows(new Uint8Array(bytes), plane, width)) if (row.fill(2)) break;
  },
  async function ready(w, { on }, [direction, options]) {
    await w.pick('buffers', on)?.ready(on < 5 ? direction : 'read', options);
  },
  function copy(w, { on }, [range]) {
    w.pick('buffers', on)?.copy(range);
  },
  function dup(w, { on }) {
    w.keep('buffers', w.pick('buffers', on)?.dup());
  },
  function facts(w, { on }, [options]) {
    const buffer = w.pick('buffers', on);
    if (buffer === undefined) return;
    void [buffer.name, buffer.exporterName, buffer.closed, buffer.size, buffer.planes];
    buffer.isSameBuffer(w.pick('buffers', on + 1));
    buffer.toNativePixmap(options);
  },
  function takeFd(w, { on }) {
    w.keep('fds', w.pick('buffers', on)?.takeFd());
  },
  function fromFd(w, { on }, [options]) {
    giveOne(w, on, (fd) => w.keep('buffers', DmaBuf.fromFd(fd, options)));
  },
  function fromAnything(_, { on }, [value]) {
    // A number may be Node's own: taken over, it would be closed.
    if (typeof value === 'number' && Number.isInteger(value)) return;
    const make = [DmaBuf.fromFd, FdSocket.fromFd, SyncFile.fromFd][on % 3];
    make(value);
  },
  function socketFromFd(w, { on }) {
    giveOne(w, on, (fd) => w.keep('sockets', FdSocket.fromFd(fd)));
  },
  function syncFileFromFd(w, { on }) {
    giveOne(w, on, (fd) => w.keep('syncFiles', SyncFile.fromFd(fd)));
  },
  function exportSyncFile(w, { on }, [direction]) {
    w.keep('syncFiles', w.pick('buffers', on)?.exportSyncFile(on < 5 ? direction : 'read'));
  },
  function importSyncFile(w, { on }, [file, direction]) {
    w.pick('buffers', on)?.importSyncFile(on < 5 ? file : w.pick('syncFiles', on), on < 9 ? direction : 'write');
  },
  async function waitSyncFile(w, { on }, [options]) {
    await w.pick('syncFiles', on)?.wait(options);
  },
  function closeBehindItsBack(w, { on }) {
    const buffer = w.pick('buffers', on);
    if (buffer && on % 4 === 0) closeSync(buffer.fd);
  },
  function closeBuffer(w, { on }) {
    w.pick('buffers', on)?.close();
  },
  function closeMapping(w, { on }) {
    w.pick('mappings', on)?.close();
  },
  function detach(w, { on }) {
    const buffer = w.pick('mappings', on)?.buffer;
    if (!buffer?.byteLength) return;
    if (on % 2) w.keep('memory', structuredClone(buffer, { transfer: on % 3 ? [buffer] : [] }));
    else if (buffer.transfer) w.keep('memory', buffer.transfer(on % 4 ? undefined : 100));
  },
  function touch(w, { on }) {
    const buffer = w.pick('mappings', on)?.buffer;
    if (buffer?.byteLength) new Uint8Array(buffer).fill(on);
    const memory = w.pick('memory', on);
    if (memory?.byteLength) new Uint8Array(memory).fill(on);
  },
  function pair(w, { on }, [options, type]) {
    const usual = { type: ['stream', 'seqpacket'][on % 2], format: ['json', 'v8', 'raw'][on % 3] };
    for (const one of FdSocket.pair(on < 5 ? options : { ...usual, maxFds: on < 8 ? type : 3 })) w.keep('sockets', one);
  },
  function listen(w, { on }, [path, options]) {
    w.keep(
      'servers',
      FdSocket.listen(on < 3 ? inFolder(path) : `socket${on}`, on < 9 ? options : { replaceStale: true }),
    );
  },
  async function accept(w, { on }) {
    w.keep('sockets', await w.pick('servers', on)?.accept());
  },
  async function connect(w, { on }, [path]) {
    w.keep('sockets', await FdSocket.connect(on < 3 ? inFolder(path) : `socket${on}`));
  },
  async function send(w, { on, inner }, [value, fds]) {
    const toJSON = () => {
      if (inner) w.step(inner);
      return 'text';
    };
    const all = on < 5 ? fds : w.buffers.filter(({ closed }) => !closed).slice(0, on % 3);
    const values = [{ toJSON }, { value: String(value) }, Buffer.alloc(on)];
    await w.pick('sockets', on)?.send(values[on % 3], all);
  },
  async function release(w, { on }, [loan]) {
    await w.pick('sockets', on)?.release(on < 5 ? loan : on);
  },
  function peer(w, { on }) {
    const socket = w.pick('sockets', on);
    assert.equal(socket?.peer.pid, socket && process.pid);
  },
  async function buffers(w, { on }) {
    const { value: message } = (await w.pick('sockets', on)?.buffers().next()) ?? {};
    for (const buffer of message?.buffers ?? []) w.keep('buffers', buffer);
    if (on < 9) message?.close();
  },
  async function receive(w, { on }) {
    const message = await w.pick('sockets', on)?.receive();
    for (const fd of message?.fds ?? []) w.keep('fds', fd);
  },
  function takeSocket(w, { on }) {
    w.keep('fds', w.pick('sockets', on)?.takeFd());
  },
  function closeSocket(w, { on }) {
    w.pick('sockets', on)?.close();
    if (on === 0) w.pick('servers', on)?.close();
  },
  function poolSync(w, { on }, [length, options]) {
    w.keep('pools', BufferPool.createSync(w.pick('heaps', on), length, on < 9 ? options : { count: 1 + (on % 3) }));
  },
  async function pool(w, { on }, [options]) {
    w.keep('pools', await BufferPool.create(w.pick('heaps', on), 1000, on < 5 ? options : { count: 1 + (on % 3) }));
  },
  async function acquire(w, { on }, [options]) {
    w.keep('pooled', await w.pick('pools', on)?.acquire(on < 9 ? options : {}));
  },
  function tryAcquire(w, { on }) {
    w.keep('pooled', w.pick('pools', on)?.tryAcquire());
  },
  async function lend(w, { on }, [value]) {
    await w.pick('pooled', on)?.send(on === 0 ? value : w.pick('sockets', on), on % 2 ? 'lent' : value);
  },
  function releaseOne(w, { on }) {
    w.pick('pooled', on)?.release();
    if (on === 0) w.pick('pools', on)?.close();
  },
  function devices(_, { on }, [path]) {
    const open = [CmaMem, Exporter, IonClient][on % 3];
    open.open(on < 5 ? path : undefined).close();
  },
  function forget(w, { on }) {
    w.buffers.splice(on, 1);
    w.mappings.splice(on, 1);
    w.accesses.splice(on, 1);
  },
  function starve(w, { inner, on }) {
    if (inner && on < 3) withoutDescriptors(() => w.step(inner));
  },
  ...videoCalls,
].filter(({ name }) => isMainThread || !GIVING.includes(name));

// -- what is left -----------------------------------------------------------------------------------------------------

function held() {
  const fds = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return /memfd:|dmabuf|\/dev\/(?!null)|socket:/.test(target) ? [`${fd} ${target}`] : [];
    } catch {
      return [];
    }
  });
  const maps = readFileSync('/proc/self/maps', 'utf8').match(/^.*(\/memfd:|dmabuf:).*$/gm) ?? [];
  return { fds, maps };
}

async function leavesNothing(before) {
  for (let round = 0; round < 20; round++) {
    globalThis.gc();
    await nextTurn();
    const { fds, maps } = held();
    if (fds.length <= before.fds.length && maps.length <= before.maps.length) return;
  }
  assert.deepEqual(held(), before);
}

const steps = Number(workerData?.steps ?? process.argv[2] ?? 1000);
const seed = Number(workerData?.seed ?? process.argv[3] ?? Date.now() % 2 ** 31);

let log = () => {};
if (isMainThread) {
  const file = openSync('steps', 'w');
  let written = 0;
  log = (line) => {
    // The last of them are what counts.
    if (written > 1 << 20) written = 0;
    written += writeSync(file, `${line}\n`, written);
  };
  console.log(`seed ${seed}`);
}

async function stopAThread(number) {
  const before = held();
  const worker = new Worker(new URL(import.meta.url), { workerData: { steps: 1000, seed: number }, execArgv: [] });
  worker.on('error', (error) => {
    throw error;
  });
  await new Promise((resolve) => worker.once('message', resolve));
  await sleep(number % 40);
  await worker.terminate();
  return before;
}

process.on('warning', () => {});
let done = 0;
let threads = 0;
parentPort?.postMessage('ready');
const result = await fc.check(
  fc.asyncProperty(
    fc.array(command, { minLength: STEPS_OF_A_RUN, maxLength: STEPS_OF_A_RUN, size: 'max' }),
    async (commands) => {
      const before = held();
      const world = new World();
      try {
        beginVideo(world);
        for (const one of commands) {
          world.step(one);
          if (one.wait) await nextTurn();
        }
      } finally {
        await world.end();
      }
      done += commands.length;
      // A thread does without: the descriptors of others come and go.
      if (!isMainThread) return;
      await leavesNothing(before);
      if (done / WORKER_IN > threads) {
        threads++;
        await leavesNothing(await stopAThread(seed + done));
      }
    },
  ),
  { seed, endOnFailure: process.argv[4] !== 'shrink', numRuns: Math.ceil(steps / STEPS_OF_A_RUN), maxSkipsPerRun: 0 },
);
if (result.failed) {
  const { errorInstance, counterexamplePath, counterexample } = result;
  console.error(
    `seed ${seed}, path ${counterexamplePath}`,
    JSON.stringify(counterexample, (_, v) => (typeof v === 'bigint' ? `${v}n` : v)),
  );
  console.error(errorInstance);
}
if (isMainThread) {
  console.log(`${done} steps, ${threads} threads stopped`);
  process.exit(result.failed ? 1 : 0);
}
