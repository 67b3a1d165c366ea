// SPDX-License-Identifier: MIT
/** npm run test:matrix: how it says that something failed. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { matrix } from './run-guest.ts';

const names = (text: string) => text.trim().split('\n');

describe('the matrix', function () {
  // All files of two guests are loaded twice, on a machine that may have other guests.
  this.timeout(900_000);
  this.slow(60_000);

  let logs: string;
  before(() => {
    logs = mkdtempSync(join(tmpdir(), 'dmabuf-logs-'));
  });
  after(() => rmSync(logs, { recursive: true }));

  it('names what failed and the command that repeats it', () => {
    const args = ['--only', '6.1-armhf', '--grep', "nobody's title", '--logs', logs];
    const { status, stdout, stderr } = matrix(...args);
    assert.equal(status, 1, stderr);
    assert.match(stdout, /^✗ 6\.1-armhf +0 +1 +0 +\d+$/m);
    assert.match(
      stdout,
      /^6\.1-armhf: no test ran .*again: npm run test:matrix -- --only 6\.1-armhf --grep='nobody'\\''s title'$/m,
    );
    assert.equal(names(stdout).at(-1), '0 passed, 1 failed, 0 skipped');
    const json = JSON.parse(matrix(...args, '--json').stdout);
    assert.equal(json.results[0].failed, 1);
  });
});
