// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
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
    const args = ['--expose-gc', script, '20000'];
    const { status, signal, stderr } = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' });
    rmSync(cwd, { recursive: true });
    assert.deepEqual({ status, signal }, { status: 0, signal: null }, stderr);
  });

  it('says what was looked for, what was found and what to run where it is missing', () => {
    const folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    try {
      for (const part of ['package.json', 'dist']) cpSync(join(root, part), join(folder, part), { recursive: true });
      symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
      const { status, stderr } = spawnSync(process.execPath, ['-e', 'require("dmabuf")'], {
        cwd: folder,
        encoding: 'utf8',
      });
      assert.notEqual(status, 0);
      assert.match(stderr, /cannot load its native part, dmabuf\.node for linux-/);
      assert.match(stderr, /build\/Release holds no addon/);
      assert.match(stderr, /npm run build:native/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('the package', () => {
  it('knows the page size of this machine', () => {
    assert.equal(library.PAGE_SIZE, PAGE);
  });

  it('is the same by require and by import', () => {
    const required = createRequire(import.meta.url)('dmabuf') as typeof library;
    assert.equal(required.DmaBuf, library.DmaBuf);
    assert.deepEqual(Object.keys(required).sort(), Object.keys(library).sort());
  });
});
