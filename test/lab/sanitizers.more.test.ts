// SPDX-License-Identifier: MIT
/** The bridge compiled with AddressSanitizer and UndefinedBehaviorSanitizer, under the tests of this machine. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { projectRoot } from './run-guest.ts';

const FLAGS = '-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g';
/** What does nothing to the bridge, or takes long under them. */
const LEFT_OUT = /^(boards|choice|consumers|fuzz|stats)\./;
/** Node.js frees nothing when it ends: of what is left then only ours counts. */
const OURS = /dmabuf\.node/;

describe('the bridge under sanitizers', function () {
  this.timeout(1_200_000);
  this.slow(300_000);

  let folder: string;
  let logs: string;
  let env: NodeJS.ProcessEnv;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-sanitized-'));
    logs = join(folder, 'reports');
    mkdirSync(logs);
    mkdirSync(join(folder, 'build'));
    for (const part of ['package.json', '.mocharc.json', 'tsconfig.json', 'dist', 'examples', 'lib', 'test']) {
      cpSync(join(projectRoot, part), join(folder, part), { recursive: true });
    }
    symlinkSync(join(projectRoot, 'node_modules'), join(folder, 'node_modules'));
    const uv = join(dirname(dirname(process.execPath)), 'include/node');
    const words = { CMAKE_CXX_FLAGS: FLAGS, CMAKE_SHARED_LINKER_FLAGS: FLAGS, DMABUF_UV_INCLUDE: uv };
    const { status, stdout, stderr } = spawnSync(
      'npx',
      [
        ...['--no-install', 'cmake-js', 'compile', '-d', join(projectRoot, 'native'), '-O', join(folder, 'cmake')],
        ...Object.entries(words).map(([name, value]) => `--CD${name}=${value}`),
      ],
      { cwd: projectRoot, encoding: 'utf8' },
    );
    assert.equal(status, 0, `${stdout}${stderr}`);
    renameSync(join(folder, 'cmake/Release'), join(folder, 'build/Release'));
    const libraries = ['libasan.so', 'libubsan.so'].map((name) =>
      spawnSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout.trim(),
    );
    env = {
      ...process.env,
      LD_PRELOAD: libraries.join(':'),
      UBSAN_OPTIONS: `print_stacktrace=1:log_path=${join(logs, 'undefined')}`,
    };
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Runs a program there, whose last words match; what the sanitizers said of the bridge. */
  function reports(args: string[], leaks: boolean, lastWords: RegExp): string[] {
    const options = `detect_leaks=${Number(leaks)}:exitcode=0:log_path=${join(logs, 'address')}`;
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      cwd: folder,
      env: { ...env, ASAN_OPTIONS: options },
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    assert.equal(status, 0, `${stdout}${stderr}`);
    // A report ends the program with 0 wherever it is.
    assert.match(stdout, lastWords, `${stdout}${stderr}`.slice(-10_000));
    const texts = readdirSync(logs).map((name) => readFileSync(join(logs, name), 'utf8'));
    return texts.flatMap((text) => text.split('\n\n')).filter((part) => OURS.test(part));
  }

  it('passes the tests without a report', () => {
    const files = readdirSync(join(folder, 'test/unit')).filter(
      (name) => name.endsWith('.test.ts') && !LEFT_OUT.test(name),
    );
    const mocha = [
      'node_modules/mocha/bin/mocha.js',
      ...['--timeout', '120000'],
      // What is freed they keep for a while: it would count as lost.
      ...['--invert', '--grep', 'from a source of memfds holds no more at its end'],
      ...files.map((name) => `test/unit/${name}`),
    ];
    assert.deepEqual(reports(['--expose-gc', '--import', 'tsx', ...mocha], false, /^ +\d+ passing/m), []);
  });

  it('survives anything, and leaks nothing of its own', () => {
    assert.deepEqual(
      reports(['--expose-gc', 'test/unit/children/api-fuzz.mjs', '3000'], true, /^\d+ steps, \d+ threads stopped$/m),
      [],
    );
  });
});
