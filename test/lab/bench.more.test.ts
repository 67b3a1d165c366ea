// SPDX-License-Identifier: MIT
/** That npm run bench measures, writes and compares; what the figures are is not for a test to say. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Results } from '../../scripts/src/bench-results.ts';
import { projectRoot } from './run-guest.ts';

/** What docs/performance.md says baseline.json is made of: enough to see each path of a heap, and a minute's work. */
const GUARDED =
  'guest (system|system, pool warm,|dma|dma, reused,|cma_mem|cma_mem, reused,) (alloc|mmap|memset|unmap\\+close|sustained) 1 MiB';

describe('npm run bench', function () {
  // On a new machine the lab kernel is built first.
  this.timeout(1_800_000);
  this.slow(120_000);
  let out: string;

  beforeEach(() => {
    out = mkdtempSync(join(tmpdir(), 'dmabuf-bench-test-'));
  });
  afterEach(() => rmSync(out, { recursive: true }));

  const bench = (...args: string[]) =>
    spawnSync(join(projectRoot, 'scripts/bench'), ['--out', out, ...args], { encoding: 'utf8' });
  const written = (): Results => JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'));

  it('measures the rows that are asked for, and says the same as a file, a table and a picture', () => {
    const { status, stdout, stderr } = bench(
      '--quick',
      '--only',
      'here (map \\+ close 4 KiB|round trip of 1 descriptor$)',
    );
    assert.equal(status, 0, stderr);
    const { results, quick, guest, here } = written();
    assert.equal(quick, true);
    assert.equal(guest, undefined);
    assert.equal(here?.node, process.version);
    assert.deepEqual(
      results.map(({ name, size, unit, peerName, where }) => [name, size, unit, peerName, where]),
      [
        ['map + close', 4096, 'µs', 'C', 'here'],
        ['round trip of 1 descriptor', undefined, 'µs', 'C', 'here'],
      ],
    );
    for (const { name, ours, peer, ratio } of results) {
      assert(ours > 0 && peer > 0, name);
      assert(Math.abs(ratio - ours / peer) < ratio / 100, name);
      assert.match(stdout, new RegExp(`^\\| ${name.replace('+', '\\+')} \\|.* ${ratio.toPrecision(3)} \\|$`, 'm'));
      assert(readFileSync(join(out, 'results.svg'), 'utf8').includes(`>${name}<`));
    }
    assert.deepEqual(readdirSync(out).sort(), ['results.json', 'results.svg']);
  });

  it('measures in the guest on kernel lab, and ends with 1 where a ratio rose by more than allowed', () => {
    const row = { name: 'cma_mem alloc', size: 4096, ratio: 1e-6, where: 'guest' };
    const earlier = join(out, 'earlier.json');
    writeFileSync(earlier, JSON.stringify({ guest: { arch: 'armhf' }, results: [row] }));
    const wanted = ['--quick', '--json', '--only', 'guest cma_mem (alloc|mmap) 4 KiB'];
    const { status, stdout, stderr } = bench(...wanted, '--compare', earlier, '--fail-above', '5');
    assert.equal(status, 1, stderr);
    assert.deepEqual(JSON.parse(stdout), written());
    const { guest, here, results } = written();
    assert.equal(guest?.arch, 'armhf');
    assert.match(guest?.kernel ?? '', /^6\.12\./);
    assert.equal(here, undefined);
    assert.deepEqual(
      results.map(({ name, peerName }) => [name, peerName]),
      [
        ['cma_mem alloc', 'in-tree reserved'],
        ['cma_mem mmap', 'in-tree reserved'],
      ],
    );
    assert.match(stderr, /^\| cma_mem alloc \| 4 KiB \| guest \| 0.00000100 \| [\d.]+ \| \+[\d.]+ % \|$/m);
    assert.match(stderr, /^\| cma_mem mmap \| 4 KiB \| guest \| new \| [\d.]+ \| {2}\|$/m);
    assert.match(stderr, /^a ratio in the guest rose by [\d.]+ %, more than 5 %$/m);
  });

  const page = readFileSync(join(projectRoot, 'docs/performance.md'), 'utf8');

  it('finds no heap slower beside the kernel’s than when bench/baseline.json was measured', () => {
    const baseline = join(projectRoot, 'bench/baseline.json');
    const known: Results = JSON.parse(readFileSync(baseline, 'utf8'));
    const wanted = ['--quick', '--only', GUARDED, '--compare', baseline, '--fail-above', '5'];
    const { status, stderr } = bench(...wanted);
    assert.equal(status, 0, stderr);
    assert(page.includes(`--only '${GUARDED}' --out`), 'docs/performance.md tells how to measure it');
    const names = ({ results }: Results) => results.map(({ name, size }) => [name, size]);
    assert.deepEqual(names(written()), names(known));
  });

  it('measures the frames of a camera against v4l2-ctl, on one guest', () => {
    const { status, stderr } = bench('--quick', '--only', 'guest camera');
    assert.equal(status, 0, stderr);
    const { guest, results } = written();
    assert.match(guest?.kernel ?? '', /^6\.12\..*-lab$/);
    assert.deepEqual(
      results.map(({ name, peerName, where, unit }) => [name, peerName, where, unit]),
      ['from one frame to the next', 'processor time of a frame'].map((name) => {
        return [`camera: ${name}`, 'v4l2-ctl', 'guest', 'µs'];
      }),
    );
    // vivid makes 120 in a second at most, and nobody gets fewer than ten.
    for (const time of [results[0]?.ours, results[0]?.peer]) assert(time && time > 8000 && time < 100_000, `${time}`);
    for (const { ratio, ours, peer } of results) assert(Math.abs(ratio - ours / peer) < ratio / 100);
  });

  it('shows by --profile the functions of a step, and the locks that processes wait for', () => {
    const args = ['--profile', '--only', 'guest SYSTEM mmap 4 KiB|by 4 processes'];
    const { status, stdout, stderr } = spawnSync(join(projectRoot, 'scripts/bench'), args, { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    const [functions = '', locks = '', ...more] = stdout.split(/^(?=\*\*)/m);
    assert.deepEqual(more, []);
    // All that is there is in a line of its own, or in the one before the last.
    const sums = (table: string) => {
      const lines = table.match(/^\| .*\d.* \|$/gm) ?? [];
      const columns = lines.map((line) => line.split('|').slice(-3, -1).map(Number));
      const [ours, peer] = columns.pop() as [number, number];
      for (const [i, all] of [ours, peer].entries()) {
        const sum = columns.reduce((part, column) => part + (column[i] as number), 0);
        assert(all > 0 && Math.abs(sum - all) <= all / 100, `${all} of which ${sum} are shown:\n${table}`);
      }
      return lines;
    };
    assert.match(functions, /^\*\*SYSTEM mmap 4 KiB\*\*, instructions a page\n\n\| \| ours \| in-tree system \|$/m);
    sums(functions);
    // What mapping a page runs through on either heap.
    assert.match(functions, /^\| `remap_pfn_range_internal` \| \d[^|]* \| \d[^|]* \|$/m);
    assert.match(locks, /^\| in \| lock \| ours \| in-tree system \|$/m);
    const waits = sums(locks);
    // The list of all dma-bufs has one lock.
    assert(
      waits.some((line) => /`dma_buf_[^|]*\| mutex \|/.test(line)),
      locks,
    );
  });

  const other = '{ "guest": { "arch": "arm64" }, "results": [] }';
  const wrong: [args: string[], message: RegExp, file?: string][] = [
    [['--quik'], /Unknown option '--quik'\. npm run bench -- --help shows what there is/],
    [['quick'], /Unexpected argument 'quick'/],
    [['--arch', 'amd64'], /there is no kernel lab for amd64, only for armhf, arm64/],
    [['--only', '('], /--only \(: not a regular expression/],
    [['--only', 'nothing of the kind'], /--only nothing of the kind: no row matches/],
    [['--quick', '--only', 'SYSTEM.* 64 KiB'], /no row of a quick run matches/],
    [['--fail-above', '5'], /--fail-above needs --compare FILE/],
    [['--compare', 'FILE', '--fail-above', 'much'], /--fail-above much: a number of percent/, other],
    [['--compare', 'FILE'], /--compare .*: there is no such file/],
    [['--compare', 'FILE'], /--compare .*: not the results\.json of a run/, '{ "results": [{}] }'],
    [['--compare', 'FILE'], /--compare .*: not the results\.json of a run/, 'no JSON'],
    [['--compare', 'FILE'], /--compare .*: measured on arm64, and this run is on armhf/, other],
    [['--profile'], /--profile needs --only PATTERN/],
    [['--profile', '--only', 'mmap'], /--profile and --out: a profile is no measurement/],
    [['--quick', '--write-docs'], /--write-docs is for a full run/],
    [['--out', '/no/such'], /--out \/no\/such: there is no such directory/],
  ];
  for (const [args, message, file] of wrong) {
    it(`${args.join(' ')}${file ? ` with ${file}` : ''} is an error, said at once`, () => {
      const path = join(out, 'file.json');
      if (file !== undefined) writeFileSync(path, file);
      const { status, stdout, stderr } = bench(...args.map((word) => (word === 'FILE' ? path : word)));
      assert.equal(status, 125, stderr);
      assert.equal(stdout, '');
      assert.match(stderr, message);
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
      assert(!existsSync(join(out, 'results.json')));
    });
  }
});
