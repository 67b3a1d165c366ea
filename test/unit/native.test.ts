// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as library from 'dmabuf';
import { PAGE } from '../support.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe('the addon', () => {
  it('survives any argument', () => {
    const script = fileURLToPath(new URL('./children/fuzz.mjs', import.meta.url));
    const cwd = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    const seed = Math.floor(Math.random() * 2 ** 31);
    const args = ['--expose-gc', script, '20000', `${seed}`];
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' });
    rmSync(cwd, { recursive: true });
    assert.deepEqual({ status, signal }, { status: 0, signal: null }, `seed ${seed}\n${stderr}`);
    const { wanted, succeeded } = JSON.parse(stdout);
    // mapShared wants a later Node.js.
    const never = wanted.filter((name: string) => name !== 'mapShared' && !(succeeded[name] > 0));
    assert.deepEqual(never, [], `seed ${seed}`);
  });

  /** What a program says that loads the library from a folder where the addon is what `prepare` makes it. */
  function complaint(prepare: (release: string) => void): string {
    const folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    try {
      for (const part of ['package.json', 'dist']) cpSync(join(root, part), join(folder, part), { recursive: true });
      symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
      prepare(join(folder, 'build/Release'));
      const { status, stderr } = spawnSync(process.execPath, ['-e', 'require("dmabuf")'], {
        cwd: folder,
        encoding: 'utf8',
      });
      assert.notEqual(status, 0);
      assert.match(stderr, /cannot load its native part, dmabuf\.node for linux-/);
      assert.match(stderr, /npm run build:native/);
      return stderr;
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  it('says what was looked for, what was found and what to run where it is missing', () => {
    assert.match(
      complaint(() => {}),
      /build\/Release holds no addon/,
    );
  });

  it('says so where it was built for another machine', () => {
    const said = complaint((release) => {
      mkdirSync(release, { recursive: true });
      writeFileSync(join(release, 'dmabuf.node'), 'no ELF file');
    });
    assert.match(said, /ERR_DLOPEN_FAILED|invalid ELF header|file too short/);
    assert.match(said, /found dmabuf\.node in .*build\/Release/);
  });

  it('says so where Node.js is told to load none', () => {
    const args = ['--no-addons', '-e', 'require("dmabuf")'];
    const { stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    assert.match(
      stderr,
      /addons is disabled\.*\. Node\.js, or this thread of it, runs with --no-addons: leave that out/,
    );
  });
});

describe('the permission model of Node.js', () => {
  const flag = ['--permission', '--experimental-permission'].find((one) =>
    process.allowedNodeEnvironmentFlags.has(one),
  ) as string;
  /** What the script says that may not do more than these. */
  function said(allowed: string[], script: string): string {
    const args = [flag, '--no-warnings', `--allow-fs-read=${root}*`, ...allowed, '-e', script];
    const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    return `${stdout}${stderr}`;
  }

  it('keeps the addon out, and the error names what lets it in', () => {
    assert.match(said([], 'require("dmabuf")'), /--permission: add --allow-addons and --allow-fs-read=/);
  });

  it('keeps /proc and /dev from being read, which is not taken for absence', () => {
    const script = `const { dmabufs, heaps } = require('dmabuf');
      try { dmabufs(); } catch (error) { console.log(error.code, error.message); }
      for (const { kind, error } of heaps({ absent: true })) if (kind === 'dma-heap') console.log(error.code, error.message);`;
    const refused = (path: string) =>
      `^EACCES EACCES: .*'. Node.js runs with --permission, and --allow-fs-read=${path} is missing`;
    const text = said(['--allow-addons'], script);
    assert.match(text, new RegExp(refused('/proc'), 'm'));
    assert.match(text, new RegExp(refused('/dev/dma_heap'), 'm'));
  });

  it('does not keep dmabufs() from what is in /proc, where only that may be read', () => {
    const script = 'console.log(Array.isArray(require("dmabuf").dmabufs()))';
    assert.equal(said(['--allow-addons', '--allow-fs-read=/proc'], script), 'true\n');
  });

  it('is not blamed for what the kernel refuses', () => {
    const folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    writeFileSync(join(folder, 'device'), '', { mode: 0 });
    const script = `const { CmaMem } = require('dmabuf');
      if (process.getuid() === 0) process.setuid(65534);
      try { CmaMem.open('${folder}/device'); } catch (error) { console.log(error.code, error.message); }`;
    const text = said(['--allow-addons'], script);
    rmSync(folder, { recursive: true });
    assert.match(text, /^EACCES .*Run as root, or give the device to a group by a udev rule\.$/m);
  });

  it('keeps paths of sockets from being looked at, which the error says', () => {
    const folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    const path = JSON.stringify(join(folder, 'file'));
    writeFileSync(join(folder, 'file'), '');
    const script = `const { FdSocket } = require('dmabuf');
      const tell = (error) => console.log(error.code, error.errno, error.syscall, error.message);
      for (const options of [{}, { replaceStale: true }]) try { FdSocket.listen(${path}, options); } catch (error) { tell(error); }
      FdSocket.connect(${path}).catch(tell);`;
    const text = said(['--allow-addons'], script);
    rmSync(folder, { recursive: true });
    const ends = '.*Node.js runs with --permission, which keeps that path from being looked at\\.\n';
    assert.match(text, new RegExp(`^(EADDRINUSE -98 listen ${ends}){2}ECONNREFUSED -111 connect ${ends}$`));
  });
});

describe('the package', () => {
  it('knows the page size of this machine', () => {
    assert.equal(library.PAGE_SIZE, PAGE);
  });

  it('makes its objects itself', async () => {
    const entries = [library, await import('dmabuf/v4l2'), await import('dmabuf/ion-handles')];
    using heap = library.openHeap('memfd');
    const exported = entries
      .flatMap((entry) => Object.entries(entry))
      .filter(([name, value]) => /^class /.test(String(value)) && name !== 'DmaBufError')
      .map(([, value]) => value);
    assert(exported.length > 15);
    const classes = [...exported, heap.constructor] as (new (...args: unknown[]) => object)[];
    for (const one of classes) {
      for (const args of [[], [undefined], [{}, {}, {}, {}], [Symbol('dmabuf'), 1, {}, {}], ['/dev/ion', 1, 2, 3]]) {
        assert.throws(() => new one(...args), { name: 'TypeError', code: 'ERR_ILLEGAL_CONSTRUCTOR' }, one.name);
      }
    }
  });

  it('is the same by require and by import', () => {
    const required = createRequire(import.meta.url)('dmabuf') as typeof library;
    assert.equal(required.DmaBuf, library.DmaBuf);
    assert.deepEqual(Object.keys(required).sort(), Object.keys(library).sort());
  });
});
