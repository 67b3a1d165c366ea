// SPDX-License-Identifier: MIT
/** The tests of this machine on the other lines of Node.js, out of the npm registry. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { projectRoot } from './run-guest.ts';

const { PATH } = process.env;

/** The package of a line's newest release holds nothing but its program. */
const nameOf = (line: string) => `node-linux-${process.arch}@${line}`;

describe('the tests of this machine', function () {
  this.timeout(1_200_000);
  this.slow(300_000);

  for (const line of ['20', '22', '24', '26']) {
    it(`pass on Node.js ${line}`, function () {
      const folder = mkdtempSync(join(tmpdir(), 'dmabuf-node-'));
      try {
        const pack = spawnSync('npm', ['pack', '--silent', nameOf(line)], { cwd: folder, encoding: 'utf8' });
        if (pack.status !== 0) {
          assert(this.test);
          this.test.title += ` (npm has no ${nameOf(line)} for us)`;
          this.skip();
        }
        spawnSync('tar', ['xzf', pack.stdout.trim()], { cwd: folder });
        const node = join(folder, 'package/bin/node');
        const files = readdirSync(join(projectRoot, 'test/unit')).filter((name) => name.endsWith('.test.ts'));
        const { status, stdout, stderr } = spawnSync(
          node,
          ['node_modules/mocha/bin/mocha.js', ...files.map((name) => `test/unit/${name}`)],
          {
            cwd: projectRoot,
            env: { ...process.env, PATH: `${dirname(node)}${delimiter}${PATH}` },
            encoding: 'utf8',
            maxBuffer: 1 << 26,
          },
        );
        assert.equal(status, 0, `${stdout}${stderr}`.slice(-10_000));
        assert.match(stdout, /^ +\d+ passing/m);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
});
