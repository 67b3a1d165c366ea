// SPDX-License-Identifier: MIT
/** npm run test:matrix: what it chooses. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { combinations, turn } from '../../scripts/src/combinations.ts';
import { guest, matrix, projectRoot } from './run-guest.ts';

const names = (text: string) => text.trim().split('\n');

describe('the matrix', function () {
  this.timeout(240_000);
  this.slow(30_000);

  it('has the kernels and architectures that docs/kernels.md shows, and no other', () => {
    const page = readFileSync(join(projectRoot, 'docs/kernels.md'), 'utf8');
    const shown = [...page.matchAll(/^\| `(\S+)`[^|]*\|[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|$/gm)].flatMap(
      ([, kernel, ...cells]) =>
        ['armhf', 'arm64', 'amd64'].filter((_, i) => cells[i]?.trim() === 'yes').map((arch) => `${kernel}-${arch}`),
    );
    const { stdout } = matrix('--list');
    assert.deepEqual(shown.splice(-2), ['debug-armhf', 'debug-arm64'], 'which test:debug runs');
    // What differs in more than the kernel and the architecture is not in the table.
    assert.deepEqual(names(stdout).slice(0, shown.length), shown);
    const others = ['6.1-arm64-armhf', '6.12-arm64-armhf', '6.1-armhf-node20', '7.2-arm64-node26'];
    assert.deepEqual(names(stdout).slice(shown.length), others);
  });

  it('takes a name for itself, and patterns', () => {
    assert.deepEqual(names(matrix('--list', '--only', '6.1-armhf').stdout), ['6.1-armhf']);
    assert.deepEqual(names(matrix('--list', '--only', '7.*').stdout), [
      '7.2-armhf',
      '7.2-arm64',
      '7.2-amd64',
      '7.2-arm64-node26',
    ]);
    assert.deepEqual(names(matrix('--list', '--only', 'amd64', '--only', 'lab').stdout).length, 6);
  });

  it('says what there is when nothing matches, and what is wrong with an option', () => {
    for (const [args, message] of [
      [['--only', '6.2'], /^matrix: --only 6\.2: there is 5\.10-armhf, /],
      [['--turn', '-1'], /^matrix: Option '--turn' argument is ambiguous|^matrix: --turn/],
      [['--turn', 'x'], /^matrix: --turn x: a whole number/],
      [['--turn', '1', '--only', 'lab'], /one of them/],
      [['--only', ''], /part of a name is expected/],
      [['--file', 'nobody'], /^matrix: --file nobody: no name of a test file begins like that/],
      [['--fast'], /^matrix: Unknown option '--fast'.*--help/],
      [['6.1'], /^matrix: Unexpected argument '6\.1'.*--help/],
    ] as const) {
      const { status, stderr, stdout } = matrix(...args);
      assert.match(stderr, message);
      assert.equal(stdout, '');
      assert.equal(status, 125);
    }
  });

  it('comes round to everything but what npm test is and the lab kernel for arm64, with one for arm64 at every turn', () => {
    const seen = new Set<string>();
    for (let number = 1000; number < 1000 + combinations.length ** 2; number++) {
      const chosen = turn(number).map(({ name }) => name);
      assert.equal(chosen.length, 2);
      assert(!chosen.includes('6.1-armhf') && !chosen.includes('lab-arm64'));
      assert(chosen.some((name) => /-arm64(-node\d+)?$/.test(name)));
      for (const name of chosen) seen.add(name);
    }
    assert.equal(seen.size, combinations.length - 2);
  });

  it('leaves out what cannot be, and the guest says what can', async () => {
    for (const [args, message] of [
      [
        ['--arch', 'armhf', '--kernel', '6.12-16k'],
        /only for arm64; for armhf there is 5\.10, 6\.1, 6\.12, 7\.2, lab, debug$/m,
      ],
      [['--arch', 'amd64', '--kernel', 'lab'], /only for armhf, arm64; for amd64 there is 5\.10, 6\.1, 6\.12, 7\.2$/m],
      [['--arch', 'armhf', '--userland', 'arm64'], /a kernel for armhf runs programs for armhf$/m],
      [['--arch', 'arm64', '--userland', 'amd64'], /a kernel for arm64 runs programs for arm64 and armhf$/m],
      [['--arch', 'riscv64'], /there is armhf, arm64, amd64$/m],
      [['--kernel', 'constructor'], /there is 5\.10, /],
      [['--kernel', '6.2'], /there is 5\.10, 6\.1, 6\.12, 6\.12-16k, 7\.2, lab, debug$/m],
      [['--arch', 'amd64', '--dtbo', '/dev/null'], /have no device tree$/m],
    ] as const) {
      const { code, stderr } = await guest([...args, '--', 'true']);
      assert.match(stderr, message);
      assert.equal(code, 125);
    }
  });
});
