// SPDX-License-Identifier: MIT
/** More of the contract of scripts/guest, for `npm run test:all`: each of these is a boot of its own. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { guest, processesWith, splat, startGuest, until } from './run-guest.ts';

describe('scripts/guest', function () {
  this.timeout(240_000);
  this.slow(30_000);

  describe('a command', () => {
    it('ends with 128 and the number of the signal that ended it', async () => {
      const { code } = await guest(['--no-modules', '--', 'sh', '-c', 'kill -TERM $$']);
      assert.equal(code, 143);
    });

    it('that does not exist ends with 127 and says so', async () => {
      const { code, stderr } = await guest(['--no-modules', '--', '/no/such/program']);
      assert.equal(code, 127);
      assert.match(stderr, /\/no\/such\/program: no such file/);
    });

    it('whose reader goes away ends too', async () => {
      const { child, ended } = startGuest(['--no-modules', '--', 'yes']);
      child.stdout?.once('data', () => child.stdout?.destroy());
      const { code } = await ended;
      assert.equal(code, 141);
    });

    it('ends although what it left in the background holds its output and writes on', async () => {
      const { code } = await guest(['--no-modules', '--', 'sh', '-c', 'yes & exit 3']);
      assert.equal(code, 3);
    });
  });

  it('whose kernel ends before it is up shows the last lines of its console', async () => {
    const { code, stdout, stderr } = await guest(['--append', 'rdinit=/bin/busybox -- poweroff -f', '--', 'true']);
    assert.equal(code, 125, stderr);
    assert.match(stderr, /guest: the guest went down by itself\nlast lines of its console:\n {2}\[ +\d/);
    assert.match(stderr, /reboot: Power down/);
    assert.equal(stdout.length, 0);
  });

  describe('a report of the kernel', () => {
    it('does not count with --allow-splat, but is shown', async () => {
      const { code, stderr } = await guest(['--allow-splat', '--', 'sh', '-c', `${splat} how=oops; exit 3`]);
      assert.equal(code, 3, stderr);
      assert.match(stderr, /Internal error: Oops/);
    });
  });

  describe('the machine', () => {
    it('counts time by instructions with --icount', async () => {
      const { code, stdout, stderr } = await guest(['--icount', '--no-modules', '--', 'nproc']);
      assert.equal(code, 0, stderr);
      assert.equal(`${stdout}`, '1\n');
    });

    for (const [node, options, version] of [
      ['20', [], /^v20\..* arm\n$/],
      ['26', ['--arch', 'arm64'], /^v26\..* arm64\n$/],
    ] as [string, string[], RegExp][]) {
      it(`has the node that --node ${node} names, and runs TypeScript on it`, async () => {
        const command = ['--', 'node', 'test/lab/version.ts'];
        const { code, stdout, stderr } = await guest([...options, '--node', node, ...command]);
        assert.equal(code, 0, stderr);
        assert.match(`${stdout}`, version);
        assert.doesNotMatch(stderr, /^\(node:\d+\)/m);
      });
    }

    it('that cannot be set up ends with 125 and says why', async () => {
      for (const [line, why] of [
        ['no_such_module', /no_such_module/],
        ['ion_lite hepas=0:system:s', /^ion_lite has no parameter hepas/m],
      ] as [string, RegExp][]) {
        const { code, stderr } = await guest(['--module', line, '--', 'true']);
        assert.equal(code, 125);
        assert.match(stderr, why);
      }
    });
  });

  it('without a command is a shell at the terminal', async () => {
    // script(1) is the terminal.
    const { child, ended } = startGuest(['--no-modules'], { TERM: 'xterm' }, [
      'sh',
      '-c',
      'script -qec "stty rows 33 cols 91; $*" /dev/null',
      'sh',
    ]);
    let screen = '';
    child.stdout?.on('data', (data) => {
      screen += data;
    });
    /** Waits for it, and forgets everything before. */
    const shown = async (text: string) => {
      assert(await until(() => screen.includes(text), 60), `no '${text}' on the screen: ${screen}`);
      screen = screen.slice(screen.indexOf(text) + text.length);
    };
    await shown('guest:/project# ');
    child.stdin?.write('stty size; sleep 1000\n');
    await shown('33 91');
    // Until the shell waits for sleep, the key is the shell's own, which drops what was typed.
    await new Promise((resolve) => setTimeout(resolve, 2000));
    child.stdin?.write('\x03');
    await shown('guest:/project# ');
    child.stdin?.write('tty; echo $((6 * 7))$TERM; exit 5\n');
    const { code, stdout } = await ended;
    assert.match(`${stdout}`, /\/dev\/pts\/0\r+\n42xterm\r+\n/);
    assert.equal(code, 5);
  });

  it('with a script as its input and no command is a shell that reads it', async () => {
    const { code, stdout } = await guest(['--no-modules'], 'echo one\nexit 4\n');
    assert.equal(`${stdout}`, 'one\n');
    assert.equal(code, 4);
  });

  describe('leaves no QEMU behind', () => {
    for (const [signal, expected] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
      ['SIGKILL', null],
    ] as const) {
      it(`when it gets ${signal}`, async () => {
        const mark = `mark=${randomBytes(6).toString('hex')}`;
        const { child, ended } = startGuest(['--no-modules', '--append', mark, '--', 'sh', '-c', 'echo up; sleep 100']);
        await new Promise((resolve) => child.stdout?.once('data', resolve));
        const qemu = () => processesWith(mark).filter((pid) => pid !== child.pid);
        assert.equal(qemu().length, 1);
        child.kill(signal);
        const { code } = await ended;
        assert.equal(code, expected);
        assert(await until(() => qemu().length === 0, 5), 'QEMU still runs');
      });
    }
  });
});
