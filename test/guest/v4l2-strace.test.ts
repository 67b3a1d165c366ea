// SPDX-License-Identifier: MIT
/**
 * What the examples move by system calls, as strace sees it: never a frame. After the other tests of examples, which leave
 * their TypeScript compiled: an emulated machine takes long for each call that strace stops at.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { hasDriver } from './drivers.ts';
import { describeModules, eventually, program, skipWithout, unload } from './support.ts';

const run = promisify(execFile);

/** On such a kernel each of these takes ten minutes and more, and what it would find is of the examples, not of the kernel. */
const debug = release().endsWith('-debug');

/** All that move bytes a program has; some are of 64-bit systems alone. */
const OUT = ['write', 'pwrite64', 'writev', 'pwritev', 'pwritev2', 'send', 'sendto', 'sendmsg', 'sendmmsg'];
const BETWEEN = ['sendfile', 'sendfile64', 'splice', 'vmsplice', 'tee', 'copy_file_range', 'process_vm_writev'];
const IN = ['read', 'pread64', 'readv', 'preadv', 'preadv2', 'recv', 'recvfrom', 'recvmsg', 'process_vm_readv'];

/** What a frame could come from, as strace calls it. */
const OTHERS = /^(\/dev\/(video|media)|\/dmabuf:|anon_inode:|socket:|pipe:|UNIX)/;

interface Moved {
  /** calls that moved something, by all processes and threads */
  calls: number;
  processes: number;
  /** bytes of the largest */
  largest: number;
  /** bytes of all that gave some to others */
  given: number;
  /** bytes of all that took some from others: a device, a buffer, a process */
  taken: number;
}

describeModules('no frame goes through a system call', function () {
  this.timeout(600_000);
  const found = program('strace');
  const strace = found.path;
  const missing = debug ? 'a kernel with debugging is too slow for it' : found.missing;
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-copies-'));
  });
  after(async () => {
    rmSync(folder, { recursive: true });
    for (const driver of ['vivid', 'vicodec']) {
      if (existsSync(`/sys/module/${driver}`)) await eventually(() => unload(driver));
    }
  });

  async function watch(...command: string[]): Promise<Moved & { stdout: string }> {
    const file = join(folder, 'trace');
    const calls = [...OUT, ...BETWEEN, ...IN].map((name) => `?${name}`).join(',');
    const options = ['--follow-forks', '--seccomp-bpf', '-qqq', '-y', '-e', `trace=${calls}`, '-e', 'signal=none'];
    // What they move is not wanted, and is long.
    const { stdout } = await run(strace, [...options, '-s', '0', '-o', file, process.execPath, ...command]);
    const processes = new Set<string>();
    const moved = { calls: 0, largest: 0, given: 0, taken: 0 };
    // Where a call goes, while others have lines.
    const begun = new Map<string, string>();
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const [, begins, to] = /^(\d+) +\w+\(\d+<([^>]*)>/.exec(line) ?? [];
      if (begins !== undefined && to !== undefined) begun.set(begins, to);
      const [, pid, name, result] = /^(\d+) +(?:<\.\.\. )?(\w+).* = (\d+)$/.exec(line) ?? [];
      if (pid === undefined || name === undefined) continue;
      const bytes = Number(result);
      processes.add(pid);
      moved.calls++;
      moved.largest = Math.max(moved.largest, bytes);
      if (!IN.includes(name)) moved.given += bytes;
      else if (name === 'process_vm_readv' || OTHERS.test(begun.get(pid) ?? '')) moved.taken += bytes;
    }
    return { ...moved, processes: processes.size, stdout };
  }

  it('is what this would see', async function () {
    skipWithout(missing, this);
    const size = 100_000;
    const one = await watch('-e', `require('fs').writeFileSync('/dev/null', Buffer.alloc(${size}))`);
    assert(one.largest >= size && one.given >= size, JSON.stringify(one));
    const pieces = `const { openSync, writeSync } = require('fs'); const fd = openSync('/dev/null', 'w');
      for (let at = 0; at < ${size}; at += 5000) writeSync(fd, Buffer.alloc(5000));`;
    const many = await watch('-e', pieces);
    assert(many.given >= size, JSON.stringify(many));
    const other = await watch('-e', `require('child_process').execFileSync('cat', { input: Buffer.alloc(${size}) })`);
    assert(other.given >= 2 * size && other.taken >= 2 * size && other.processes >= 2, JSON.stringify(other));
  });

  for (const [name, [width, height], args] of [
    ['camera-to-png', [640, 360], ['frame.png']],
    ['worker-filter', [320, 180], ['negative.png']],
    ['camera-loopback', [320, 180], ['to.png']],
    ['two-process-pipeline', [320, 180], ['8']],
    ['camera-encode-decode', [640, 360], []],
  ] as const) {
    it(`of the example ${name}`, async function () {
      skipWithout(missing, this);
      if (name === 'camera-encode-decode' && !hasDriver('vicodec')) this.skip();
      const frame = width * height * 3;
      const inFolder = args.map((arg) => (arg.endsWith('.png') ? join(folder, arg) : arg));
      const { stdout, ...moved } = await watch(`examples/${name}.ts`, ...inFolder);
      assert.match(stdout, /\d+ frames|frame \d+/);
      assert(moved.calls > 20, JSON.stringify(moved));
      // The program's own files are read, each in one; what anybody gave to others, or took from them, was not even one
      // frame, in pieces.
      const { largest, given, taken } = moved;
      assert(Math.max(largest, given, taken) < frame, `a frame has ${frame} bytes: ${JSON.stringify(moved)}`);
    });
  }
});
