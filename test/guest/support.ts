// SPDX-License-Identifier: MIT
/** What the guest's tests count, load and run. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { leavesNothing, PAGE } from '../support.ts';

export { PAGE, wholePages } from '../support.ts';

/** Devices that hand out buffers, in the order in which their modules are loaded. */
export const devices = ['exporter', 'ion', 'cma_mem'] as const;
export type Device = (typeof devices)[number];

export const moduleOf: Readonly<Record<Device, string>> = { exporter: 'exporter', ion: 'ion_lite', cma_mem: 'cma_mem' };

/** What a module says it has handed out (sysfs). */
export interface Counters {
  buffers: number;
  bytes: number;
}

export function counters(device: Device): Counters {
  const read = (name: string) => Number(readFileSync(`/sys/class/misc/${device}/${name}`, 'utf8'));
  return { buffers: read('buffers'), bytes: read('bytes') };
}

/** The counters of all devices: what is compared before and after. The exporter's own page is one buffer. */
export function allCounters(): Record<string, Counters> {
  return Object.fromEntries(devices.filter(isLoaded).map((device) => [device, counters(device)]));
}

/** What {@link allCounters} says while nobody holds anything. */
export const idleCounters: Readonly<Record<Device, Counters>> = {
  exporter: { buffers: 1, bytes: PAGE },
  ion: { buffers: 0, bytes: 0 },
  cma_mem: { buffers: 0, bytes: 0 },
};

export function isLoaded(device: Device): boolean {
  return existsSync(`/sys/class/misc/${device}`);
}

/** `describe` of what needs the modules; one pending test with the reason where they are absent. */
export function describeModules(title: string, body: (this: Mocha.Suite) => void): void {
  const missing = devices.filter((device) => !isLoaded(device)).map((device) => moduleOf[device]);
  if (missing.length === 0) describe(title, body);
  else describe(title, () => void it(`needs the modules ${missing.join(', ')}, which scripts/guest loads`));
}

/** Runs `body` and checks that no descriptor, mapping or page of a module stays behind. */
export async function leavesNoPage(body: () => unknown): Promise<void> {
  const before = allCounters();
  await leavesNothing(body);
  await eventually(() => assert.deepEqual(allCounters(), before));
}

/** Repeats a check that asynchronous work of the kernel or of a dying process may make wait. */
export async function eventually(check: () => void, patience = 5000): Promise<void> {
  for (const deadline = Date.now() + patience; ; await sleep(5)) {
    try {
      check();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
  }
}

/** A line of /proc/meminfo, in KiB. */
export function memory(name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]);
}

/** Bytes of contiguous memory set aside; none on amd64, whose stock kernels have no CMA. */
export function cmaMemory(): { total: number; free: number } {
  const [total = 0, free = 0] = ['CmaTotal', 'CmaFree'].map((name) => 1024 * (memory(name) || 0));
  assert(total > 0 || process.arch === 'x64', 'this kernel has no CMA area');
  return { total, free };
}

/** Bytes of the largest piece of memory outside CMA: /proc/buddyinfo has a column for each size. */
export function largestBlock(): number {
  const [, columns = ''] = /zone +\w+((?: +\d+)+)/.exec(readFileSync('/proc/buddyinfo', 'utf8')) ?? [];
  return PAGE * 2 ** (columns.trim().split(/ +/).length - 1);
}

/** Bytes beyond what CMA has, and beyond one block of pages: only scattered memory is that large. */
export const onlyScattered = () => Math.max(cmaMemory().total, largestBlock()) + PAGE;

/** What somebody is told who asks for too large a piece. */
export const noPiece = () =>
  cmaMemory().total > 0
    ? /no piece of contiguous memory.*KiB of \d+ KiB of CMA are free.*cma=SIZE/
    : /no piece of contiguous memory.*built without CMA.*one block of the page allocator/;

/** Whether the kernel is built with dma-heaps of its own: the lab kernel is, and Debian's for amd64 from 6.12. */
export function hasOwnDmaHeaps(): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release()) ?? [];
  return release().endsWith('-lab') || (process.arch === 'x64' && Number(major) * 100 + Number(minor) >= 612);
}

/** Whether a buffer is cached that was asked for so: on x86, where the caches see what devices do, all are. */
export const saysCached = (cached: boolean) => cached || process.arch === 'x64';

/** How often the OOM killer has struck (/proc/vmstat). */
export function oomKills(): number {
  return Number(/^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'))?.[1]);
}

/** Value of a line of a descriptor's fdinfo. */
export function fdinfo(fd: number, key: string, pid: number | 'self' = 'self'): string | undefined {
  const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
  return new RegExp(`^${key}:\\t(.*)$`, 'm').exec(text)?.[1];
}

/** Descriptors a process has, by number. */
export function fdsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

export function load(module: string, ...parameters: string[]): void {
  execFileSync('modprobe', [module, ...parameters], { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** @throws where the module is in use */
export function unload(...modules: string[]): void {
  execFileSync('rmmod', modules, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Checks that a module refuses parameters, with a last line in the kernel's log that says why. */
export function refuses(module: string, parameters: string | string[], why: RegExp): void {
  const said = () =>
    kernelLog()
      .split('\n')
      .filter((line) => line.includes(`${module}: `));
  const before = said().length;
  assert.throws(() => load(module, ...[parameters].flat()), /modprobe/, `${parameters}`);
  const [line = '', ...more] = said().slice(before);
  assert.match(line, why);
  assert.deepEqual(more, []);
  assert(!existsSync(`/sys/module/${module}`));
}

/** What lies in /sys/kernel/debug, or would with debugfs mounted. */
export function debugfs(path: string): string {
  const root = '/sys/kernel/debug';
  if (readdirSync(root).length === 0) execFileSync('mount', ['-t', 'debugfs', 'debugfs', root]);
  return join(root, path);
}

/** A line of the table of heaps in debugfs, by the words of its first. */
export type HeapLine = Record<
  'heap' | 'id' | 'backing' | 'buffers' | 'bytes' | 'peak_bytes' | 'size' | 'largest_free' | 'base',
  string
>;

/** What debugfs says of the heaps of a device, in the order of trial. */
export function heapLines(device: Device = 'ion'): HeapLine[] {
  const [words = [], ...lines] = readFileSync(debugfs(`${device}/heaps`), 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/ +/));
  return lines.map((line) => Object.fromEntries(line.map((word, i) => [words[i], word])) as HeapLine);
}

/** Checks that a module cannot go because somebody uses it. */
export function staysLoaded(module: string): void {
  assert.throws(() => unload(module), /is in use/);
}

/** Unloads a device's module for the time of `body`. */
export async function without(device: Device, body: () => unknown): Promise<void> {
  const module = moduleOf[device];
  unload(module);
  try {
    await body();
  } finally {
    load(module);
  }
}

/** Loads a device's module with parameters for the time of `body`. */
export async function withParameters(device: Device, parameters: string[], body: () => unknown): Promise<void> {
  const module = moduleOf[device];
  unload(module);
  try {
    load(module, ...parameters);
    await body();
  } finally {
    if (isLoaded(device)) unload(module);
    load(module);
  }
}

/** The same for the tests of the suite that is being declared. */
export function suiteWithParameters(device: Device, ...parameters: string[]): void {
  const module = moduleOf[device];
  before(() => {
    unload(module);
    load(module, ...parameters);
  });

  after(async () => {
    if (isLoaded(device)) await eventually(() => unload(module));
    load(module);
  });
}

/** What the kernel has said since it was started, as far as it remembers. */
export function kernelLog(): string {
  return execFileSync('dmesg', { encoding: 'utf8', maxBuffer: 64 * 2 ** 20 });
}

/** Where c/build.ts has put its programs. */
const { DMABUF_TEST_PROGRAMS: programs = '/share/c' } = process.env;

/** Path of a program of test/guest/c, or the reason why it is not there. */
export function program(name: string): { path: string; missing?: string } {
  const path = join(programs, name);
  if (existsSync(path)) return { path };
  const how = 'tsx test/guest/c/build.ts DIRECTORY/c on the host, then scripts/guest --share DIRECTORY';
  return { path, missing: `no ${path}: ${how}` };
}

/** Skips a test whose program is missing, and lets its title say why. */
export function skipWithout(missing: string | undefined, context: Mocha.Context): void {
  if (missing === undefined) return;
  assert(context.test);
  context.test.title += ` (${missing})`;
  context.skip();
}

/** Numbers from 0 to 1 (Park and Miller). */
export function random(seed: number): () => number {
  let state = (seed % 0x7ffffffe) + 1;
  return () => {
    state = (state * 48271) % 0x7fffffff;
    return state / 0x7fffffff;
  };
}

/** Path of a script for another process; mocha runs at the root of the project. */
export function childScript(name: string): string {
  return resolve('test/guest/children', name);
}

/** What every system error of the library has; `sentence` is the part of its message that says what to do. */
export function systemErrorOf(code: string, errno: number, syscall: string, path: string, sentence: RegExp) {
  return (error: unknown): true => {
    assert(error instanceof Error);
    const { code: gotCode, errno: gotErrno, syscall: gotSyscall, path: gotPath } = error as NodeJS.ErrnoException;
    assert.deepEqual(
      { code: gotCode, errno: gotErrno, syscall: gotSyscall, path: gotPath },
      { code, errno: -errno, syscall, path },
      error.message,
    );
    assert.match(error.message, sentence);
    assert(error.message.startsWith(`${code}: `), error.message);
    return true;
  };
}
