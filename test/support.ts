// SPDX-License-Identifier: MIT
/** What tests count and compare. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTick, setTimeout as sleep } from 'node:timers/promises';

/** Bytes of a page, as the kernel says and not the library. */
export const PAGE = 1024 * Number(/^KernelPageSize:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/smaps', 'utf8'))?.[1]);

/** Bytes a socket takes that nobody reads, which is also more than a record may have. */
export const SEND_BUFFER = Number(readFileSync('/proc/sys/net/core/wmem_default', 'utf8'));

/** The whole pages that so many bytes take. */
export function wholePages(bytes: number): number {
  return Math.ceil(bytes / PAGE) * PAGE;
}

/** The descriptors of this process that are buffers, sockets or devices: what the library makes. */
export function openFds(): string[] {
  const found: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      found.push(`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`);
    } catch {
      // the descriptor of the directory itself
    }
  }
  return found.filter((line) => /memfd:|dmabuf|\/dev\/|socket:/.test(line)).sort();
}

/** The mappings of this process that show a buffer. */
export function mappedBuffers(): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => /\/memfd:|dmabuf|\/dev\/(ion|cma_mem|exporter|dma_heap)/.test(line));
}

/** Where the buffers of a name are mapped in this process: from the first address to before the second. */
export function addressesOf(name: string): [number, number][] {
  return mappedBuffers()
    .filter((line) => line.includes(`:${name} `))
    .map(addresses);
}

/** Bytes of these addresses that something is mapped at, whatever it is. */
export function inUse(ranges: readonly [number, number][]): number {
  const maps = readFileSync('/proc/self/maps', 'utf8').trim().split('\n').map(addresses);
  const common = ([start, end]: [number, number]) =>
    maps.reduce((sum, [from, to]) => sum + Math.max(0, Math.min(end, to) - Math.max(start, from)), 0);
  return ranges.reduce((sum, range) => sum + common(range), 0);
}

/** Of a line of /proc/self/maps. */
function addresses(line: string): [number, number] {
  const [start, end] =
    line
      .split(' ', 1)[0]
      ?.split('-')
      .map((each) => Number.parseInt(each, 16)) ?? [];
  return [start as number, end as number];
}

/** Kibibytes of address space in use. */
export function addressSpace(): number {
  return Number(/^VmSize:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
}

/** Collects garbage and lets finalizers run. */
export async function collect(): Promise<void> {
  assert(globalThis.gc, 'run with --expose-gc');
  for (let round = 0; round < 5; round++) {
    globalThis.gc();
    await nextTick();
  }
}

/** Milliseconds in which a busy machine gets round to it, and less than a test has. */
const PATIENCE = 8000;

/** Waits until `condition` holds, collecting garbage meanwhile. V8 frees memory in threads of its own, which take a while. */
export async function collectUntil(condition: () => boolean): Promise<void> {
  const end = Date.now() + PATIENCE;
  // In an emulated guest so many rounds take longer.
  for (let round = 0; !condition() && (round < 50 || Date.now() < end); round++) {
    await collect();
    await sleep(1);
  }
}

/** Runs `body` and checks that it leaves neither a descriptor nor a mapping behind. */
export async function leavesNothing(body: () => unknown): Promise<void> {
  const fds = openFds();
  const maps = mappedBuffers().length;
  await body();
  assert.deepEqual(openFds(), fds);
  await collectUntil(() => mappedBuffers().length <= maps);
  // Fewer, where an earlier test's were collected meanwhile.
  assert(mappedBuffers().length <= maps, mappedBuffers().join('\n'));
}

/** For a `describe`: each test has a path for a socket, and a list of sockets that are closed after it. */
export function withSocketPaths(give: (path: string, sockets: { close(): void }[]) => void): void {
  let folder: string;
  let sockets: { close(): void }[] = [];
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
  });
  after(() => rmSync(folder, { recursive: true }));
  beforeEach(() => {
    sockets = [];
    give(join(folder, `socket-${Math.random().toString(36).slice(2)}`), sockets);
  });
  afterEach(() => {
    for (const socket of sockets) socket.close();
  });
}

/** Runs `body` while this process can open nothing more. */
export async function withoutDescriptors(body: () => unknown): Promise<void> {
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EMFILE');
  }
  try {
    await body();
  } finally {
    taken.forEach(closeSync);
  }
}

/** Bytes of memory programs can still have, as the kernel estimates it. */
export function available(): number {
  return 1024 * Number(/^MemAvailable: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]);
}
