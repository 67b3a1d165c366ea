// SPDX-License-Identifier: MIT
/** The contract of scripts/guest, each sentence of it with a guest that really boots. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guest, splat, startGuest } from './run-guest.ts';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

function fetchText(url: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const request = get(url, { timeout: 2000 }, (response) => {
      let text = '';
      response.on('data', (data) => {
        text += data;
      });
      response.on('end', () => resolve(text));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(undefined));
  });
}

describe('scripts/guest', function () {
  this.timeout(240_000);
  this.slow(30_000);
  let directory: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'dmabuf-lab,1-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  describe('a command', () => {
    it('has its own output, error output and exit code, and finds modules and project in place', async () => {
      const script =
        'pwd; lsmod | grep -c "^\\(dmabuf_core\\|exporter\\|ion_lite\\|cma_mem\\) "; echo oops >&2; exit 7';
      const { code, stdout, stderr } = await guest(['--', 'sh', '-c', script]);
      assert.equal(`${stdout}`, '/project\n4\n');
      assert.equal(stderr, 'oops\n');
      assert.equal(code, 7);
    });

    it('gets every byte of its input and gives back every byte of its output', async () => {
      const bytes = randomBytes(1_000_000);
      const { code, stdout } = await guest(['--no-modules', '--', 'cat'], bytes);
      assert.equal(code, 0);
      assert.equal(Buffer.compare(stdout, bytes), 0);
    });

    it('ends with 124 when it runs longer than --timeout, counted from its start', async () => {
      const { code, stdout, stderr } = await guest(['--timeout', '5', '--', 'sh', '-c', 'echo before; sleep 60']);
      assert.equal(code, 124);
      assert.equal(`${stdout}`, 'before\n');
      assert.match(stderr, /did not end within 5 s/);
    });
  });

  describe('TypeScript', () => {
    const files = {
      'main.ts': `
        import { spawnSync } from 'node:child_process';
        import { Worker } from 'node:worker_threads';
        import { heaps } from 'dmabuf';
        import { half } from './half.ts';
        import { quarter } from './quarter.cts';
        enum Answer { No, Yes }
        {
          using thing = { [Symbol.dispose]() { console.log('disposed'); } };
        }
        console.log(await Promise.resolve(half(84)), quarter(8), Answer.Yes, heaps().length > 0);
        process.stdout.write(spawnSync(process.execPath, [import.meta.dirname + '/child.ts'], { encoding: 'utf8' }).stdout);
        new Worker(new URL('./worker.ts', import.meta.url)).on('message', (text: string) => console.log(text));
      `,
      'half.ts': 'export const half = (n: number): number => n / 2;',
      // CommonJS by its name, and by its syntax.
      'quarter.cts': `
        const { half } = require('./half.js');
        export const quarter = (n: number): number => half(half(n));
      `,
      'child.ts': `
        const { quarter } = require('./quarter.cts');
        const arch: string = require('node:os').arch();
        console.log('child on', arch, quarter(4), require.main === module, __filename);
      `,
      'worker.ts': "import { parentPort } from 'node:worker_threads'; parentPort!.postMessage('worker' as string);",
    };

    it('just runs from /share, with its imports, child processes and workers', async () => {
      for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
      const { code, stdout, stderr } = await guest(['--share', directory, '--', 'node', '/share/main.ts']);
      assert.equal(stderr, '');
      assert.equal(`${stdout}`, 'disposed\n42 2 1 true\nchild on arm 1 true /share/child.ts\nworker\n');
      assert.equal(code, 0);
    });
  });

  describe('a report of the kernel', () => {
    it('ends the run with 99 and is shown, whatever the command ends with and hides', async () => {
      const script = `dmesg -n 1; ${splat} how=warn; dmesg -c >/dev/null; exit 3`;
      const { code, stderr } = await guest(['--', 'sh', '-c', script]);
      assert.equal(code, 99, stderr);
      assert.match(stderr, /the kernel reported:/);
      assert.match(stderr, /WARNING: CPU: \d .*splat/);
    });

    it('of a panic ends the run at once', async () => {
      const { code, stderr, seconds } = await guest([
        '--timeout',
        '200',
        '--',
        'sh',
        '-c',
        `${splat} how=panic; sleep 199`,
      ]);
      assert.equal(code, 99, stderr);
      assert.match(stderr, /Kernel panic - not syncing/);
      assert(seconds < 190, `${seconds} s`);
    });
  });

  describe('the machine', () => {
    it('is the one the options describe', async () => {
      const overlay = join(directory, 'overlay');
      writeFileSync(`${overlay}.dts`, '/dts-v1/; /plugin/; &{/} { dmabuf-test { label = "from the overlay"; }; };');
      execFileSync('dtc', ['-@', '-O', 'dtb', '-o', `${overlay}.dtbo`, `${overlay}.dts`], { stdio: 'pipe' });
      const screen = join(directory, 'screen.png');
      const port = await freePort();
      const server = "require('http').createServer((q, r) => r.end('hi')).listen(8080)";
      const options = ['--mem', '512', '--cma', '32', '--smp', '1', '--append', 'quux=1', '--dtbo', `${overlay}.dtbo`];
      options.push('--module', 'exporter message="two words"', '--module', 'vivid n_devs=1', '--share', directory);
      options.push('--screendump', screen, '--forward', `${port}:8080`, '--qemu-arg', '-device', '--qemu-arg', 'edu');
      const script = [
        'grep -o "quux=1" /proc/cmdline',
        'nproc',
        "awk '/MemTotal/ { print ($2 > 400000 && $2 < 524288) } /CmaTotal/ { print $2 }' /proc/meminfo",
        'tr "\\0" "\\n" </proc/device-tree/dmabuf-test/label',
        'cat /sys/module/exporter/parameters/message',
        'ls /dev/video0',
        'cat /sys/bus/pci/devices/*/vendor | grep 1234',
        'echo written >/share/file',
        `exec node -e "${server}; setTimeout(process.exit, 15000)"`,
      ];
      const { ended } = startGuest([...options, '--', 'sh', '-c', script.join('\n')]);
      let answer: string | undefined;
      const over = ended.then(() => true);
      const pause = () => new Promise<boolean>((resolve) => setTimeout(resolve, 500, false));
      while (answer === undefined && !(await Promise.race([over, pause()]))) {
        answer = await fetchText(`http://127.0.0.1:${port}/`);
      }
      const { code, stdout, stderr } = await ended;
      assert.equal(code, 0, stderr);
      const lines = ['quux=1', '1', '1', '32768', 'from the overlay', 'two words', '/dev/video0', '0x1234'];
      assert.deepEqual(`${stdout}`.trim().split('\n'), lines);
      assert.equal(readFileSync(join(directory, 'file'), 'utf8'), 'written\n');
      assert.equal(answer, 'hi');
      assert.equal(readFileSync(screen).toString('latin1', 1, 4), 'PNG');
    });
  });

  describe('says what is wrong and ends with 125, given', () => {
    const cases: [what: string, args: string[], message: RegExp][] = [
      ['an unknown option', ['--frob'], /Unknown option '--frob'/],
      ['an option without its value', ['--mem'], /--mem/],
      ['an unknown kernel', ['--kernel', '4.4', '--', 'true'], /--kernel 4\.4: there is .*6\.1/],
      ['an unknown architecture', ['--arch', 'vax', '--', 'true'], /--arch vax: there is .*armhf/],
      ['a word before --', ['true'], /true/],
      ['no command after --', ['--'], /COMMAND is expected/],
      ['too little memory', ['--mem', '5', '--', 'true'], /--mem 5: a whole number from/],
      ['more contiguous memory than memory', ['--mem', '256', '--cma', '500', '--', 'true'], /--cma 500/],
      ['no number of processors', ['--smp', 'two', '--', 'true'], /--smp two/],
      ['a negative timeout', ['--timeout', '-1', '--', 'true'], /--timeout/],
      ['a folder that is not there', ['--share', '/no/such', '--', 'true'], /\/no\/such: there is no such directory/],
      ['an overlay that is not there', ['--dtbo', '/no/such', '--', 'true'], /there is no such file/],
      [
        'an overlay that is not compiled',
        ['--dtbo', 'README.md', '--', 'true'],
        /it is not compiled; dtc -@ .* README\.md/,
      ],
      ['a port that is none', ['--forward', '70000:80', '--', 'true'], /--forward 70000:80/],
      ['a module line that is none', ['--module', 'a;b', '--', 'true'], /--module/],
      ['a userland that the kernel cannot run', ['--userland', 'arm64', '--', 'true'], /--userland arm64/],
      ['a node that is not there', ['--node', '4', '--', 'true'], /--node 4: .*there is 20, 24$/m],
      ['a node that is not there for 32-bit programs', ['--node', '26', '--', 'true'], /--node 26: .*20, 24$/m],
    ];
    for (const [what, args, message] of cases) {
      it(what, async () => {
        const { code, stdout, stderr } = await guest(args);
        assert.match(stderr, message);
        assert.equal(code, 125);
        assert.equal(`${stdout}`, '');
      });
    }
  });
});
