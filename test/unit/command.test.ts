// SPDX-License-Identifier: MIT
/** The command `dmabuf`, as far as a machine without modules has what it takes. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { constants as osConstants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { BufferPool, FdSocket, heaps, openHeap } from 'dmabuf';
import fc from 'fast-check';
import { type Column, json, paragraph, printable, table, width } from '../../lib/command/print.ts';
import { helpOf, type Name, options, parse, size, UsageError, usages } from '../../lib/command/usage.ts';
import {
  type Check,
  dmabuf,
  examined,
  isListening,
  MAIN,
  type Options,
  Running,
  said,
  saidJson,
  shell,
} from '../command.ts';
import { PAGE, wholePages } from '../support.ts';

const names = Object.keys(usages) as Name[];

/** A buffer of one page for a command. */
const withBuffer = (...command: string[]) => ['alloc', `${PAGE}`, '--from', 'memfd', '--', ...command];

/** For a script in which `d` is the command. */
const inShell = (script: string, options: Options = {}) => dmabuf(withBuffer(...shell(script)), options);

/** Checks that something fails, with one line that says why. */
function fails(args: string[], status: number, why: RegExp, options: Options = {}): void {
  const result = dmabuf(args, options);
  assert.deepEqual({ status: result.status, stdout: result.stdout }, { status, stdout: '' }, result.stderr);
  assert.match(result.stderr, why);
  assert.match(result.stderr, /^dmabuf[ :].*\n$/);
}

describe('dmabuf', function () {
  this.timeout(60_000);
  this.slow(2_000);
  let folder: string;
  let path: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
  });
  after(() => rmSync(folder, { recursive: true }));
  beforeEach(() => {
    path = join(folder, `socket-${Math.random().toString(36).slice(2)}`);
  });

  describe('as a command', () => {
    it('is what package.json names, and tells its version', () => {
      const { version, bin } = JSON.parse(readFileSync('package.json', 'utf8'));
      assert.equal(join(process.cwd(), bin.dmabuf), MAIN);
      assert.equal(said(['--version']), `${version}\n`);
      assert.match(readFileSync(MAIN, 'utf8'), /^#!\/usr\/bin\/env node\n/);
    });

    it('has a help with every subcommand and exit code, on 80 columns', () => {
      const help = said(['--help']);
      for (const name of names) assert.match(help, new RegExp(`^  ${name} +\\w.*$`, 'm'));
      for (const line of help.split('\n')) assert(line.length <= 80, line);
      assert.match(help, /exit codes: 0; 1 .*2 wrong\susage.*128\+n.*127.*126.*125/s);
      for (const other of ['-h', 'help']) assert.equal(said([other]), help);
      for (const args of [
        ['heaps', '-h'],
        ['help', 'heaps'],
        ['heaps', '--all', '--help'],
      ])
        assert.equal(said(args), helpOf('heaps'));
    });

    for (const name of names) {
      it(`has a help of ${name} with each of its options, and no others`, () => {
        const help = said([name, '--help']);
        assert.equal(help, helpOf(name));
        assert.match(help, new RegExp(`^usage: dmabuf ${name} `));
        const listed = [...help.matchAll(/^ {2}(?:-h, )?--(\[?no-\]?)?([\w-]+)/gm)].map(([, , option]) => option);
        assert.deepEqual(listed.sort(), Object.keys(options[name]).sort());
        for (const line of help.split('\n')) assert(line.length <= 80, line);
      });

      it(`refuses options and words that ${name} does not have`, () => {
        fails([name, '--jsno'], 2, /Unknown option '--jsno'\. usage: dmabuf \w+ /);
        assert.throws(() => parse(name, ['--json=1']), /'--json' does not take an argument/);
        assert.throws(() => parse(name, ['a', 'b']), /Too many words: [ab]\. usage: dmabuf/);
      });
    }

    it('says what is wrong with how it was called', () => {
      const { status, stdout, stderr } = dmabuf([]);
      assert.deepEqual({ status, stdout }, { status: 2, stdout: '' });
      assert(stderr.includes(said(['--help']).trim()));
      fails(['heap'], 2, /There is no heap: dmabuf --help lists/);
      fails(['toString'], 2, /There is no toString/);
      fails(['alloc'], 2, /SIZE is missing\. usage: dmabuf alloc SIZE/);
      fails(['send'], 2, /PATH is missing/);
      fails(['recv'], 2, /PATH is missing/);
      fails(['alloc', '1T'], 2, /SIZE 1T: a number of bytes is expected/);
      fails(['alloc', '0', '--from', 'memfd'], 2, /"length" is out of range/);
      fails(['alloc', '1M', '--from', 'heap'], 2, /--from heap: ion, dma-heap, .*is expected/);
      fails(['alloc', '1M', '--from', 'ion', '--type', 'x'], 2, /"type" must be one of system, /);
      fails(['alloc', '1M', '--from', 'memfd', '--name', 'x'.repeat(32)], 2, /at most 31 bytes/);
      fails(['ps', '--pid', '0'], 2, /--pid 0: a whole number from 1/);
      fails(['recv', path, '--count', '0'], 2, /--count 0: a whole number from 1/);
      fails(['doctor', '--kernel-config', join(folder, 'none')], 2, /--kernel-config .*ENOENT/);
      fails(['heaps', '--', 'true'], 2, /Too many words: true/);
      assert(!existsSync(path));
    });

    it('has the same exit code where its errors cannot be told', async () => {
      const codes = inShell(
        'd bogus 2>/dev/full; echo $?; d alloc 1M --from memfd 2>/dev/full -- no-such-command; echo $?',
      );
      assert.equal(codes.stdout, '2\n127\n');
      const quiet = inShell('{ sleep 0.5; d bogus; echo $? >"$CODE"; } 2>&1 >/dev/null | true; sleep 2; cat "$CODE"', {
        env: { CODE: join(folder, 'code') },
      });
      assert.equal(quiet.stdout, '2\n');
      const full = openSync('/dev/full', 'w');
      await using holder = new Running(['alloc', '1M', '--from', 'memfd'], {}, full);
      closeSync(full);
      await holder.line();
      await holder.line();
      await new Promise((resolve) => setTimeout(resolve, 200));
      holder.kill('SIGTERM');
      assert.equal(await holder.end(), 0);
    });

    it('shows a terminal nothing that names of others would do to it', () => {
      const file = join(folder, 'a\x1b[31m\nline');
      writeFileSync(file, '');
      const fd = openSync(file, 'r');
      try {
        fails(['dump', '--fd', '3'], 1, /Descriptor 3 \(.*a\\u001b\[31m\\u000aline\) is no dma-buf/, { fds: [fd] });
        fails(['send', '\x1b[31m', '--fd', '3'], 1, /no dma-buf/, { fds: [fd] });
        fails(['\x1b[31m'], 2, /There is no \\u001b\[31m:/);
      } finally {
        closeSync(fd);
      }
    });

    it('tells errors as JSON, too', () => {
      const { status, stdout, stderr } = dmabuf(['alloc', '1M', '--from', '/dev/nowhere', '--json']);
      assert.deepEqual({ status, stdout }, { status: 1, stdout: '' });
      const { message, ...error } = JSON.parse(stderr).error;
      assert.deepEqual(error, { code: 'ENOENT', errno: -2, syscall: 'open', path: '/dev/nowhere' });
      assert.match(message, /^ENOENT: .*heaps\(\) lists/);
      const wrong = dmabuf(['heaps', '--json', 'x']);
      assert.equal(wrong.status, 2);
      assert.match(JSON.parse(wrong.stderr).error.message, /Too many words: x/);
    });

    it('says how the native part is built where that is missing, and needs it for no help', () => {
      const copy = mkdtempSync(join(tmpdir(), 'dmabuf-'));
      try {
        for (const part of ['package.json', 'dist']) cpSync(part, join(copy, part), { recursive: true });
        symlinkSync(join(process.cwd(), 'node_modules'), join(copy, 'node_modules'));
        const main = join(copy, 'dist/command/main.js');
        assert.equal(said(['heaps', '--help'], { main }), helpOf('heaps'));
        fails(['heaps'], 1, /cannot load its native part.*npm run build:native/, { main });
        const { subject, verdict, found, cure } = examined([], { main }).get('native part') ?? {};
        assert.deepEqual([subject, verdict], ['devices', 'bad']);
        assert.match(found ?? '', /cannot load its native part/);
        assert.match(cure ?? '', /^Build it with: cd .* && npm run build:native/);
      } finally {
        rmSync(copy, { recursive: true });
      }
    });
  });

  describe('sizes', () => {
    it('are bytes, or have K, M or G', () => {
      const all = { '0': 0, '4096': 4096, '0x1000': 4096, '3k': 3072, '8M': 2 ** 23, '1G': 2 ** 30 };
      for (const [text, bytes] of Object.entries(all)) assert.equal(size('SIZE', text), bytes);
      for (const wrong of ['', 'K', '1KiB', '1.5M', '-1', '0x', ' 1', '9007199254740993', '9999999G']) {
        assert.throws(() => size('SIZE', wrong), UsageError, wrong);
      }
    });
  });

  describe('arguments', () => {
    it('are refused by a sentence, or are understood', () => {
      const words = fc.oneof(
        fc.constantFrom('--', '--json', '--fd', '3', '--no-json', '--help', '-h', '-', '--value=', '--from', '1M'),
        fc.string(),
      );
      fc.assert(
        fc.property(fc.constantFrom(...names), fc.array(words, { maxLength: 6 }), (name, args) => {
          try {
            parse(name, args);
          } catch (error) {
            assert(error instanceof UsageError);
            assert.match(error.message, /usage: dmabuf/);
          }
        }),
      );
    });
  });

  describe('tables', () => {
    const columns: Column<[string, string, number]>[] = [
      { title: 'NAME', value: ([name]) => name, least: 4 },
      { title: 'PLACE', value: ([, place]) => place, least: 5, spare: 1 },
      { title: 'N', value: ([, , n]) => n },
    ];

    it('have numbers at the right, and nothing is cut where there is no terminal', () => {
      const rows: [string, string, number][] = [
        ['a', 'somewhere', 1],
        ['b'.repeat(200), '', 1000],
      ];
      const wide = (text: string) => text.padEnd(200);
      const expected = [
        `${wide('NAME')}  PLACE         N`,
        `${wide('a')}  somewhere     1`,
        `${'b'.repeat(200)}             1000`,
      ];
      assert.equal(table(columns, rows, undefined), `${expected.join('\n')}\n`);
    });

    it('fit the terminal: names are cut, columns left out, numbers neither', () => {
      const rows: [string, string, number][] = [['a name that is long', 'elsewhere', 12345]];
      assert.equal(table(columns, rows, 24), 'NAME     PLACE         N\na name…  elsewhe…  12345\n');
      assert.equal(table(columns, rows, 17), 'NAME            N\na name th…  12345\n');
      assert.equal(table(columns, rows, 3), 'NAME      N\na n…  12345\n');
    });

    it('fit whatever the names are, and show no character that does something to a terminal', () => {
      const text = fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.string(),
        fc.constantFrom('画面', '\x1b[31m', '\u202e', 'e\u0301'),
      );
      const rows = fc.array(fc.tuple(text, text, fc.nat(99999)), { maxLength: 5 });
      fc.assert(
        fc.property(rows, fc.integer({ min: 11, max: 100 }), (lines, room) => {
          const shown = table(columns, lines, room);
          assert.equal(shown.split('\n').length, lines.length + 2);
          for (const line of shown.split('\n')) assert(width(line) <= room, line);
          assert.equal(printable(shown.replaceAll('\n', '')), shown.replaceAll('\n', ''));
        }),
      );
    });

    it('count two columns for a character of that width, and none for an accent', () => {
      assert.deepEqual(['abc', '画面', 'e\u0301', '🎥', ''].map(width), [3, 4, 1, 2, 0]);
    });

    it('are beside paragraphs that are broken at the terminal', () => {
      assert.equal(paragraph('one two three', 2, 9), '  one two\n  three\n');
      assert.equal(paragraph('one two three', 2, undefined), '  one two three\n');
      assert.equal(paragraph('extraordinary', 2, 5), '  extraordinary\n');
    });

    it('are beside JSON that is the same to a program, and does nothing to a terminal', () => {
      fc.assert(
        fc.property(fc.string({ unit: 'binary' }), (text) => {
          const line = json({ [text]: [text] });
          assert.deepEqual(Object.entries(JSON.parse(line)), [[text, [text]]]);
          assert.equal(printable(line.slice(0, -1)), line.slice(0, -1));
        }),
      );
    });

    /** What a terminal with so many columns shows. */
    function onTerminal(columns: number, args: string[], environment = ''): string[] {
      const command = `stty cols ${columns} && ${environment} '${process.execPath}' '${MAIN}' ${args.join(' ')}`;
      const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8' });
      return stdout.replaceAll('\r', '').trimEnd().split('\n');
    }

    for (const columns of [24, 40, 80, 200]) {
      it(`fit a terminal of ${columns} columns`, () => {
        const lines = onTerminal(columns, ['heaps', '--all']);
        const titles = lines[0]?.split(/ +/) ?? [];
        assert(
          ['KIND', 'NAME', 'STATE'].every((title) => titles.includes(title)),
          lines[0],
        );
        assert.equal(titles.includes('BUFFERS'), columns >= 80);
        // A word that is longer is not broken.
        for (const line of lines) assert(line.length <= columns || !line.trim().includes(' '), line);
        for (const line of onTerminal(columns, ['doctor'])) {
          assert(line.length <= columns || !/\S .*\S/.test(line.trim().replace(/^(->|ok|warn|bad) +/, '')), line);
        }
      });
    }

    it('fit as many columns as COLUMNS says', () => {
      const lines = onTerminal(40, ['heaps', '--all']);
      assert.deepEqual(onTerminal(7, ['heaps', '--all'], 'COLUMNS=40'), lines);
      assert.deepEqual(onTerminal(40, ['heaps', '--all'], 'COLUMNS=wide'), lines);
    });

    it('are not cut for what is no terminal', () => {
      const { stdout } = dmabuf(['heaps', '--all'], { env: { COLUMNS: '10' } });
      assert.equal(stdout, dmabuf(['heaps', '--all']).stdout);
      assert.match(stdout, /^KIND +NAME +ID +TYPE +PATH +MEMORY +BUFFERS +KIB +STATE\n/);
    });
  });

  describe('heaps', () => {
    it('lists what heaps() lists', () => {
      const told = (found: ReturnType<typeof heaps>) =>
        found.map(({ error, ...info }) => ({
          ...info,
          ...(error ? { code: error.code, message: error.message } : {}),
        }));
      for (const absent of [false, true]) {
        const args = absent ? ['heaps', '--all'] : ['heaps'];
        const found = heaps({ absent });
        const listed = saidJson(args).map(
          ({ error, stats: _stats, ...info }: { error?: { code: string; message: string }; stats?: unknown }) => ({
            ...info,
            ...(error ? { code: error.code, message: error.message } : {}),
          }),
        );
        assert.deepEqual(listed, told(found));
        const shown = said(args);
        for (const { kind, error } of found) {
          assert.match(shown, new RegExp(`^${kind} .* ${error?.code ?? 'ok'}$`, 'm'));
          if (error) assert(shown.includes(`\n${error.message}\n`));
        }
      }
    });
  });

  describe('alloc', () => {
    it('gives a command a zeroed buffer of that size and name', () => {
      const { status, stdout, stderr } = dmabuf([
        'alloc',
        '5K',
        '--from',
        'memfd',
        '--name',
        'frame 0',
        '--',
        ...shell('echo $DMABUF_FDS; readlink /proc/self/fd/3; d dump'),
      ]);
      assert.equal(stderr, '');
      assert.equal(status, 0);
      const end = wholePages(5120).toString(16).padStart(8, '0');
      const zeros = `00000000  ${'00 '.repeat(16)} |${'.'.repeat(16)}|\n`;
      assert.equal(stdout, `3\n/memfd:frame 0 (deleted)\n${zeros}*\n${end}\n`);
    });

    it('holds the buffer itself until its command ends', () => {
      const { stdout } = inShell('sleep 0.2; readlink /proc/$PPID/fd/* | grep -c memfd:');
      assert.equal(stdout, '1\n');
    });

    it('ends as its command does', () => {
      assert.equal(dmabuf(withBuffer('true')).status, 0);
      assert.equal(inShell('exit 7').status, 7);
      assert.equal(inShell('kill -9 $$').status, 137);
      fails(withBuffer('no-such-command'), 127, /There is no command no-such-command/);
      fails(withBuffer('/etc/passwd'), 126, /\/etc\/passwd cannot be run/);
      fails(withBuffer('/etc/passwd/x'), 126, /ENOTDIR/);
      fails(withBuffer('x'.repeat(5000)), 126, /cannot be run: spawn .*ENAMETOOLONG/);
      fails(withBuffer(''), 127, /There is no command ''/);
      fails(['alloc', 'x', '--', 'true'], 125, /SIZE x/);
      fails(['alloc', '1M', '--from', '/dev/nowhere', '--', 'true'], 125, /ENOENT/);
      fails(['alloc', '1M', '--'], 125, /no COMMAND behind --/);
    });

    it('hands signals on, and leaves those of the terminal to its command', async () => {
      await using stopped = new Running(withBuffer('sh', '-c', 'echo $$; exec sleep 600'));
      await stopped.line();
      stopped.kill('SIGTERM');
      assert.equal(await stopped.end(), 143);
      await using other = new Running(withBuffer('sh', '-c', 'echo $$; read line; exit 5'));
      await other.line();
      other.kill('SIGINT');
      other.write('\n');
      assert.equal(await other.end(), 5);
    });

    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      it(`holds a buffer until ${signal}`, async () => {
        await using holder = new Running(['alloc', '1M', '--from', 'memfd', '--name', 'held', '--json']);
        const { pid, fd, inode, ...made } = JSON.parse(await holder.line());
        assert.deepEqual(made, {
          length: 2 ** 20,
          size: 2 ** 20,
          name: 'held',
          dma: false,
          contiguous: false,
          protected: false,
          heap: { kind: 'memfd', name: 'memfd', path: 'memfd' },
        });
        assert.equal(pid, holder.pid);
        assert.match(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'), new RegExp(`^ino:\\t${inode}$`, 'm'));
        holder.kill(signal);
        assert.equal(await holder.end(), 0);
        assert.equal(holder.stderr, '');
      });
    }

    it('shows a person what it holds', async () => {
      await using holder = new Running(['alloc', '1M', '--from', 'memfd', '--name', '\x1b[31mred']);
      assert.match(await holder.line(), /^ *INODE +KIB +NAME +HEAP +MEMORY +PID +FD$/);
      assert.match(await holder.line(), /^ *\d+ +1024 {2}\\u001b\[31mred {2}memfd {2}scattered +\d+ +\d+$/);
      holder.kill('SIGINT');
      await holder.end();
      assert.match(holder.stderr, /held until this is interrupted/);
    });

    it('holds nothing where it cannot say what', () => {
      const { status, stderr } = inShell('d alloc 1M --from memfd >/dev/full');
      assert.equal(status, 1);
      assert.match(stderr, /^dmabuf alloc: ENOSPC/);
    });

    it('says what there is where nothing has what is asked for', function () {
      fails(
        ['alloc', '1M', '--from', 'memfd', '--contiguous'],
        1,
        /no heap with contiguous: true there; its only heap is memfd/,
      );
      fails(['alloc', '1M', '--from', 'memfd', '--no-cached'], 1, /There is no heap with cached: false/);
      fails(['alloc', '1M', '--from', 'memfd', '--heap', 'x'], 1, /There is no heap "x" there/);
      assert.equal(
        dmabuf(['alloc', '1M', '--from', 'memfd', '--no-contiguous', '--no-protected', '--cached', '--', 'true'])
          .status,
        0,
      );
      if (heaps().some(({ dma }) => dma)) this.skip();
      fails(['alloc', '1M'], 1, /no heap with dma: true: there are memfd memfd.*modprobe ion_lite/);
      fails(['alloc', '1M', '--heap', 'camera'], 1, /ENOENT.*\/dev\/ion/);
    });
  });

  describe('ps', () => {
    it('lists no memfd, which is no dma-buf', async () => {
      await using holder = new Running(['alloc', '1M', '--from', 'memfd', '--json']);
      const { pid } = JSON.parse(await holder.line());
      assert.deepEqual(saidJson(['ps', '--pid', `${pid}`]), []);
      assert.equal(said(['ps', '--pid', `${pid}`]), 'INODE  KIB  EXPORTER  NAME  PID  COMMAND  FDS  MAPS  DEVICES\n');
    });
  });

  describe('dump', () => {
    const filled = (script: string) =>
      inShell(`d fill --from - && ${script}`, { input: Buffer.from(Uint8Array.from({ length: 256 }, (_, i) => i)) });

    it('shows bytes as hexdump -C does', function () {
      if (spawnSync('hexdump', ['-C'], { input: '' }).status !== 0) this.skip();
      const { stdout, stderr } = filled('d dump; d dump --raw | hexdump -C');
      assert.equal(stderr, '');
      const lines = stdout.split('\n');
      assert.equal(lines.length, 2 * 19 + 1);
      const same = (line: string) => line.replace(/ +/g, ' ');
      assert.deepEqual(lines.slice(0, 19).map(same), lines.slice(19, -1).map(same));
    });

    it('shows a part of a buffer, raw and as JSON, too', () => {
      const { stdout } = filled(
        'd dump --offset 0x41 --length 3; d dump --offset 65 --length 3 --raw; echo; d dump --offset 65 --length 3 --json',
      );
      const [line, end, raw, document = ''] = stdout.split('\n');
      assert.equal(line, `00000041  41 42 43${' '.repeat(40)} |ABC|`);
      assert.deepEqual([end, raw], ['00000044', 'ABC']);
      const { inode, ...part } = JSON.parse(document);
      assert.equal(typeof inode, 'number');
      assert.deepEqual(part, { size: PAGE, name: '', offset: 65, length: 3, data: 'QUJD' });
    });

    it('shows large buffers whole', () => {
      const length = 3 * 2 ** 20;
      const command = shell(
        'd fill 7 --offset 1M; d fill 9 --offset 2097153; d dump; d dump --raw | tail -c 1 | od -An -tu1; d dump --json',
      );
      const { stdout, stderr } = dmabuf(['alloc', '3M', '--from', 'memfd', '--', ...command]);
      assert.equal(stderr, '');
      const lines = stdout.split('\n');
      const sevens = `00100000  ${'07 '.repeat(16)} |${'.'.repeat(16)}|`;
      const border = `00200000  07 ${'09 '.repeat(15)} |${'.'.repeat(16)}|`;
      const nines = `00200010  ${'09 '.repeat(16)} |${'.'.repeat(16)}|`;
      assert.deepEqual(lines.slice(1, 8), ['*', sevens, '*', border, nines, '*', '00300000']);
      assert.equal(lines[8]?.trim(), '9');
      const expected = Buffer.alloc(length)
        .fill(7, 2 ** 20)
        .fill(9, 2 ** 21 + 1);
      assert(Buffer.from(JSON.parse(lines[9] as string).data, 'base64').equals(expected));
    });

    it('reads a buffer that may not be written, which fill may not', () => {
      using heap = openHeap('memfd');
      using buffer = heap.allocSync(PAGE);
      const fd = openSync(`/proc/self/fd/${buffer.fd}`, 'r');
      try {
        const options = { fds: [fd] };
        assert.equal(
          said(['dump', '--fd', '3', '--length', '1'], options),
          `00000000  00${' '.repeat(46)} |.|\n00000001\n`,
        );
        fails(['fill', '--fd', '3'], 1, /EACCES.*copy\(\) reads the contents/, options);
      } finally {
        closeSync(fd);
      }
    });

    describe('of another process', () => {
      before(function () {
        // Root may look into any.
        const scope = '/proc/sys/kernel/yama/ptrace_scope';
        if (process.getuid?.() !== 0 && existsSync(scope) && readFileSync(scope, 'utf8').trim() !== '0') this.skip();
      });

      it('shows, fills and sends what that holds, by PID:FD', async () => {
        await using holder = new Running(['alloc', '8K', '--from', 'memfd', '--name', 'theirs', '--json']);
        const { pid, fd, inode } = JSON.parse(await holder.line());
        const theirs = `${pid}:${fd}`;
        assert.equal(said(['fill', '7', '--length', '1', '--fd', theirs]), '');
        assert.equal(said(['dump', theirs, '--length', '2']), `00000000  07 00${' '.repeat(43)} |..|\n00000002\n`);
        assert.equal(said(['dump', '--fd', theirs, '--length', '1', '--raw']), '\x07');
        using server = FdSocket.listen(path);
        const sent = saidJson(['send', path, '--fd', theirs, '--fd', theirs]);
        const buffer = { inode, size: 8192, name: 'theirs' };
        assert.deepEqual(sent, { value: null, buffers: [buffer, buffer] });
        using socket = await server.accept();
        const message = await socket?.receive();
        assert.equal(message?.fds.length, 2);
        for (const number of message?.fds ?? []) closeSync(number);
        // It has what it had.
        holder.kill('SIGTERM');
        assert.equal(await holder.end(), 0);
        fails(['dump', theirs], 1, /ESRCH.*no such process/);
      });

      it('says what is no buffer there, or no number', async () => {
        await using holder = new Running(['alloc', '8K', '--from', 'memfd', '--json']);
        const { pid } = JSON.parse(await holder.line());
        fails(['dump', `${pid}:0`], 1, new RegExp(`Descriptor 0 of process ${pid} \\(.*\\) is no dma-buf`));
        const { stderr } = dmabuf(['dump', `${pid}:0`, '--json']);
        const { code, syscall, errno } = JSON.parse(stderr).error;
        const { EINVAL } = osConstants.errno;
        assert.deepEqual(
          { code, syscall, errno },
          { code: 'ERR_DMABUF_NOT_A_DMABUF', syscall: 'fstatfs', errno: -EINVAL },
        );
        fails(['dump', `${pid}:9999`], 1, /EBADF.*no such descriptor/);
        for (const wrong of ['1:', ':3', '1:x', '0:3', '4194305:3', '1:2:3', '1:-1']) {
          fails(['dump', wrong], 2, /^dmabuf dump: --fd .*(PID|FD) .*: a whole number from/);
        }
        fails(['dump', '3'], 2, /3: PID:FD is expected, or --fd N/);
        fails(['dump', `${pid}:3`, '--fd', '3'], 2, /PID:FD or --fd, not both/);
      });
    });

    it('says what is wrong with a range, a descriptor, or too many of them', () => {
      const wrong = (args: string[], why: RegExp) => {
        const { status, stderr } = dmabuf(withBuffer(process.execPath, MAIN, ...args));
        assert.equal(status, 2, stderr);
        assert.match(stderr, why);
      };
      fails(['dump'], 2, /There is no buffer: run it as COMMAND of dmabuf alloc or dmabuf recv, or .*--fd/);
      fails(['dump', '--fd', 'x'], 2, /--fd x: a whole number/);
      fails(['dump', '--fd', '0'], 1, /Descriptor 0 \(.*\) is no dma-buf/);
      fails(['dump', '--fd', '77'], 1, /EBADF.*not open in this process/);
      fails(['dump'], 1, /EBADF/, { env: { DMABUF_FDS: '77' } });
      fails(['fill'], 2, /DMABUF_FDS x: a whole number/, { env: { DMABUF_FDS: 'x' } });
      fails(['fill', '--fd', '3', '--fd', '4'], 2, /one --fd only/);
      wrong(['dump', '--offset', `${PAGE}`], /--offset \d+: the buffer has \d+ bytes/);
      wrong(['fill', '--offset', '1', '--length', `${PAGE}`], /--length \d+: from 1 on the buffer has \d+ bytes/);
      wrong(['dump', '--raw', '--json'], /--raw or --json, not both/);
    });

    it('ends quietly when nobody reads on, and loudly when it cannot be written', () => {
      const closed = dmabuf([
        'alloc',
        '8M',
        '--from',
        'memfd',
        '--',
        ...shell('{ d dump --raw; echo "ended with $?" >&2; } | head -c 1'),
      ]);
      assert.equal(closed.stderr, 'ended with 0\n');
      const full = inShell('d dump --raw >/dev/full');
      assert.equal(full.status, 1);
      assert.match(full.stderr, /^dmabuf dump: ENOSPC/);
    });
  });

  describe('fill', () => {
    it('fills a buffer, or a part of it, with a byte', () => {
      const { stdout, stderr } = inShell(
        'd fill 0xff; d fill 65 --offset 2 --length 3; d dump --length 8; d fill; d dump --length 8; d fill 1 --offset 1K --json',
      );
      assert.equal(stderr, '');
      const [first, , second, , document = ''] = stdout.split('\n');
      assert.match(first ?? '', /^00000000 {2}ff ff 41 41 41 ff ff ff /);
      assert.match(second ?? '', /^00000000 {2}(00 ){8}/);
      const { inode, ...part } = JSON.parse(document);
      assert.equal(typeof inode, 'number');
      assert.deepEqual(part, { size: PAGE, name: '', offset: 1024, length: PAGE - 1024 });
    });

    it('copies a file into it, as far as that goes and no further than there is room', () => {
      const file = join(folder, 'file');
      writeFileSync(file, 'hello world');
      const short = inShell(`d fill 1; d fill --from '${file}' --offset 1 --json; d dump --length 13 --raw`);
      assert(short.stdout.endsWith('"offset":1,"length":11}\n\x01hello world\x01'), short.stdout);
      const long = inShell(`d fill --from '${file}' --length 5; echo $?; d dump --length 6 --raw`);
      assert.equal(long.stdout, '1\nhello\0');
      assert.match(long.stderr, /has more than the 5 bytes there is room for: these were written/);
      const none = inShell(`d fill --from '${file}.none'`);
      assert.equal(none.status, 1);
      assert.match(none.stderr, /ENOENT/);
      const whole = inShell('d fill --from - && d dump --raw', { input: 'x'.repeat(PAGE) });
      assert.equal(whole.stdout, 'x'.repeat(PAGE));
    });

    it('says what is no byte', () => {
      for (const wrong of ['256', '1.0']) fails(['fill', wrong], 2, /BYTE .*: a whole number from 0 to 255/);
      fails(['fill', '1', '--from', 'x'], 2, /BYTE or --from FILE, not both/);
    });
  });

  describe('send and recv', () => {
    /** Until somebody listens there. */
    async function listening(receiver: Running): Promise<void> {
      while (!isListening(path)) {
        assert(existsSync(`/proc/${receiver.pid}`), receiver.stderr);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }

    it('hand a buffer from one terminal to another', async () => {
      await using receiver = new Running([
        'recv',
        path,
        '--',
        ...shell('echo $DMABUF_FDS "$DMABUF_VALUE"; readlink /proc/self/fd/3; d dump --length 2; exit 3'),
      ]);
      await listening(receiver);
      const { status, stdout, stderr } = dmabuf([
        'alloc',
        '1M',
        '--from',
        'memfd',
        '--name',
        'frame',
        '--',
        ...shell(`d fill 9 && d send '${path}' --value '{"width":2}'`),
      ]);
      assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' });
      assert.equal(await receiver.line(), '3 {"width":2}');
      assert.equal(await receiver.line(), '/memfd:frame (deleted)');
      assert.match(await receiver.line(), /^00000000 {2}09 09 /);
      assert.equal(await receiver.line(), '00000002');
      assert.equal(await receiver.end(), 3);
      assert(!existsSync(path));
    });

    it('show what was sent and what came, as tables or as JSON', async () => {
      await using receiver = new Running(['recv', path, '--json', '--count', '2']);
      await listening(receiver);
      const sent = JSON.parse(inShell(`d send '${path}' --json`).stdout);
      const [buffer] = sent.buffers;
      assert.deepEqual(sent, { value: null, buffers: [{ inode: buffer.inode, size: PAGE, name: '' }] });
      assert.deepEqual(JSON.parse(await receiver.line()), {
        value: null,
        buffers: [{ ...buffer, exporter: 'memfd', dma: false }],
      });
      using peer = await FdSocket.connect(path);
      await peer.send('\u202e');
      const line = await receiver.line();
      assert.equal(line, '{"value":"\\u202e","buffers":[]}');
      assert.equal(await receiver.end(), 0);

      await using other = new Running(['recv', path]);
      await listening(other);
      dmabuf([
        'alloc',
        '8K',
        '--from',
        'memfd',
        '--name',
        '\x9b31m',
        '--',
        process.execPath,
        MAIN,
        'send',
        path,
        '--value',
        '"\x9b"',
      ]);
      assert.equal(await other.line(), '"\\u009b"');
      assert.match(await other.line(), /^ *INODE +KIB +NAME +EXPORTER$/);
      assert.match(await other.line(), /^ *\d+ +\d+ {2}\\u009b31m +memfd$/);
      assert.equal(await other.end(), 0);
    });

    it('take several buffers and several messages, by one peer or by several', async () => {
      await using receiver = new Running([
        'recv',
        path,
        '--count',
        '3',
        '--',
        ...shell('echo "$DMABUF_VALUE" $DMABUF_FDS; d send "$0" 2>&1 | wc -l'),
      ]);
      await listening(receiver);
      using heap = openHeap('memfd');
      using one = heap.allocSync(PAGE);
      using two = heap.allocSync(PAGE);
      // Says nothing, and goes.
      (await FdSocket.connect(path)).close();
      using peer = await FdSocket.connect(path);
      await peer.send(1, [one, two]);
      assert.equal(await receiver.line(), '1 3,4');
      await receiver.line();
      await peer.send(2);
      assert.equal(await receiver.line(), '2');
      await receiver.line();
      peer.close();
      using third = await FdSocket.connect(path);
      await third.send(3, [two]);
      assert.equal(await receiver.line(), '3 3');
      await receiver.line();
      assert.equal(await receiver.end(), 0);
    });

    it('send several buffers in one message', async () => {
      using server = FdSocket.listen(path);
      using heap = openHeap('memfd');
      using one = heap.allocSync(PAGE);
      using two = heap.allocSync(2 * PAGE);
      const options = { fds: [one.fd, two.fd] };
      assert.equal(said(['send', path, '--fd', '4', '--fd', '3'], options), '');
      using socket = await server.accept();
      const message = await socket?.receive();
      assert.deepEqual([message?.value, message?.fds.length], [null, 2]);
      for (const fd of message?.fds ?? []) closeSync(fd);
      fails(['send', path, '--value', '{'], 2, /--value { is no JSON/, options);
      fails(['send', path], 2, /There is no buffer/, options);
      fails(['send', path, '--fd', '3', '--fd', '3'], 2, /Descriptor 3 is named twice/, options);
    });

    it('say why nobody can be reached, or listened to', async () => {
      const options = { env: { DMABUF_FDS: '3' } };
      using heap = openHeap('memfd');
      using buffer = heap.allocSync(PAGE);
      fails(['send', path], 1, /ENOENT.*Nobody listens there/, { ...options, fds: [buffer.fd] });
      const file = join(folder, 'taken');
      writeFileSync(file, '');
      fails(['recv', file], 1, /EADDRINUSE.*remove it/);
      fails(['recv', file, '--', 'true'], 125, /EADDRINUSE/);
      fails(['recv', join(folder, 'none/socket')], 1, /ENOENT.*Its folder does not exist/);
      fails(['recv', 'x'.repeat(108)], 2, /at most 107 bytes/);
      assert(existsSync(file));
    });

    it('end with an error and leave no socket where a peer breaks the rules, or sends what is no buffer', async () => {
      await using receiver = new Running(['recv', path]);
      await listening(receiver);
      using peer = await FdSocket.connect(path);
      using heap = openHeap('memfd');
      using buffer = heap.allocSync(PAGE);
      await peer.send(1, [buffer, 0, 1]);
      assert.equal(await receiver.end(), 1);
      assert.match(receiver.stderr, /^dmabuf recv: Descriptor \d+ \(.*\) is no dma-buf.*\n$/);
      assert(!existsSync(path));

      await using other = new Running(['recv', path, '--json']);
      await listening(other);
      const socket = connect(path);
      await once(socket, 'connect');
      socket.end('GET / HTTP/1.1');
      assert.equal(await other.end(), 1);
      assert.equal(JSON.parse(other.stderr).error.code, 'ERR_DMABUF_PROTOCOL');
      assert(!existsSync(path));
    });

    it('give buffers back that were lent, one message after the other', async () => {
      for (const command of [[], ['--', 'true']]) {
        await using receiver = new Running(['recv', path, '--count', '3', ...command]);
        await listening(receiver);
        using heap = openHeap('memfd');
        using pool = await BufferPool.create(heap, PAGE, { count: 1 });
        using peer = await FdSocket.connect(path);
        for (let i = 0; i < 3; i++) {
          using buffer = await pool.acquire();
          await buffer.send(peer, i);
        }
        assert.equal(await receiver.end(), 0);
      }
    });

    it('say that a message is nested too deep to be shown, or too long for a command', async () => {
      const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
      // Node.js 26 shows it.
      let shows = true;
      try {
        JSON.stringify(JSON.parse(deep));
      } catch {
        shows = false;
      }
      const sendsDeep = async () => {
        const body = Buffer.from(deep);
        const header = Buffer.alloc(8);
        header.writeUInt32LE(body.length);
        const socket = connect(path);
        await once(socket, 'connect');
        socket.end(Buffer.concat([header, body]));
      };
      for (const [command, code, why] of [
        [[], shows ? 0 : 1, shows ? /^$/ : /^dmabuf recv: What the message says cannot be told as JSON: .*\n$/],
        [['--', 'true'], shows ? 126 : 125, shows ? /too long for execve/ : /cannot be told as JSON: .*\n$/],
      ] as const) {
        await using receiver = new Running(['recv', path, ...command]);
        await listening(receiver);
        await sendsDeep();
        assert.equal(await receiver.end(), code);
        assert.match(receiver.stderr, why);
      }
      await using receiver = new Running(['recv', path, '--', 'true']);
      await listening(receiver);
      using peer = await FdSocket.connect(path);
      await peer.send('x'.repeat(200_000));
      assert.equal(await receiver.end(), 126);
      assert.match(receiver.stderr, /^dmabuf recv: true cannot be run: .*DMABUF_VALUE.* too long for execve\(\)\.\n$/);
    });

    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
      ['SIGHUP', 129],
    ] as const) {
      it(`leave no socket after ${signal}`, async () => {
        await using receiver = new Running(['recv', path]);
        await listening(receiver);
        // One is connected and says nothing.
        using peer = await FdSocket.connect(path);
        receiver.kill(signal);
        assert.equal(await receiver.end(), code);
        assert(!existsSync(path));
        assert.equal(await peer.receive(), undefined);
      });
    }
  });

  describe('doctor', () => {
    it('shows each verdict with what was found, and the cure of what is not well', () => {
      const { status, stdout } = dmabuf(['doctor']);
      const checks = [...examined().values()];
      assert.deepEqual([...new Set(checks.map(({ subject }) => subject))], ['kernel', 'modules', 'devices', 'memory']);
      for (const { subject, name, verdict, found, cure } of checks) {
        assert(stdout.includes(`${subject}\n`));
        assert(stdout.includes(`\n  ${verdict.padEnd(4)}  ${name}: ${found}\n`), name);
        if (cure) assert(stdout.includes(`\n        -> ${cure}\n`), cure);
      }
      const worst = status === 1 ? 'bad' : 'warn|ok';
      assert.match(stdout, new RegExp(`\nverdict: (${worst}) \\(\\d+ ok, \\d+ warn, \\d+ bad\\)\n$`));
    });

    const kernelOptions = [
      'DMA_SHARED_BUFFER',
      'MODULES',
      'DMA_CMA',
      'DMABUF_HEAPS',
      'UDMABUF',
      'MEMFD_CREATE',
      'SYNC_FILE',
      'DEBUG_FS',
    ];
    const all = kernelOptions.map((name) => `CONFIG_${name}=y\n`).join('');
    const examinedWith = (config: string | Uint8Array) => {
      const file = join(folder, 'config');
      writeFileSync(file, config);
      return examined(['--kernel-config', file]);
    };

    it("has a verdict on each of the kernel's options", () => {
      const found = examinedWith(all);
      assert.equal(found.get('configuration')?.verdict, 'ok');
      for (const name of kernelOptions) assert.equal(found.get(`CONFIG_${name}`)?.verdict, 'ok', name);
      for (const name of kernelOptions) {
        const line = name === 'UDMABUF' ? '' : `# CONFIG_${name} is not set\n`;
        const without = examinedWith(all.replace(`CONFIG_${name}=y\n`, line));
        const bad = name === 'DMA_SHARED_BUFFER' ? 'bad' : 'warn';
        for (const other of kernelOptions) {
          assert.equal(without.get(`CONFIG_${other}`)?.verdict, other === name ? bad : 'ok', other);
        }
        const { found: what = '', cure = '' } = without.get(`CONFIG_${name}`) ?? {};
        assert.match(what, /^is not set: \w.*/);
        assert.match(cure, /Boot a kernel that is built with it/);
      }
    });

    it('reads options of modules and compressed files, and refuses what is no configuration', () => {
      assert.equal(examinedWith(all.replaceAll('=y', '=m')).get('CONFIG_UDMABUF')?.found, 'm');
      assert.equal(examinedWith(gzipSync(all)).get('CONFIG_UDMABUF')?.verdict, 'ok');
      for (const wrong of ['', 'hello', gzipSync(all).subarray(0, 20)]) {
        const file = join(folder, 'wrong');
        writeFileSync(file, wrong);
        fails(['doctor', '--kernel-config', file], 2, /--kernel-config .*wrong: /);
      }
    });

    it('refuses a configuration without an end', () => {
      fails(['doctor', '--kernel-config', '/dev/zero'], 2, /--kernel-config \/dev\/zero: it is too long/);
      const file = join(folder, 'bomb');
      writeFileSync(file, gzipSync(Buffer.alloc(2 ** 25)));
      fails(['doctor', '--kernel-config', file], 2, /--kernel-config .*bomb: /);
    });

    it('finds the configuration of this kernel, where there is one', () => {
      const release = execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim();
      const places = ['/proc/config.gz', `/boot/config-${release}`, `/lib/modules/${release}/config`];
      const { verdict, found } = examined().get('configuration') ?? {};
      const there = places.find(existsSync);
      assert.deepEqual(
        [verdict, found],
        there ? ['ok', there] : ['warn', 'not in /proc/config.gz, /boot or /lib/modules'],
      );
    });

    it('says of modules that this kernel loads none, or that they are not installed', function () {
      const found = examined();
      const ours = ['dmabuf_core', 'exporter', 'ion_lite', 'cma_mem'];
      if (ours.some((name) => existsSync(`/sys/module/${name}`))) this.skip();
      for (const name of ours) {
        const { subject, verdict, found: what = '', cure = '' } = found.get(name) ?? {};
        assert.deepEqual([subject, verdict], ['modules', 'warn']);
        if (existsSync('/proc/modules')) {
          assert.match(what, /is not installed for Linux|is installed and not loaded/);
          assert.match(cure, /make -C kernel-modules|modprobe|any of the others/);
        } else {
          assert.match(what, /built without CONFIG_MODULES/);
          assert.match(cure, /Boot a kernel that is built with it/);
        }
      }
    });

    it('says which devices are not there, and that there is no DMA memory', function () {
      if (heaps().some(({ dma }) => dma)) this.skip();
      const found = examined();
      for (const path of ['/dev/ion', '/dev/dma_heap', '/dev/cma_mem', '/dev/udmabuf', '/dev/exporter']) {
        const { subject, verdict, found: what = '' } = found.get(path) ?? {};
        assert.deepEqual([subject, verdict], ['devices', 'warn'], path);
        assert.match(what, /^is not there/);
      }
      const { verdict, found: what, cure = '' } = found.get('DMA memory') ?? {};
      assert.deepEqual([verdict, what], ['bad', 'there is no heap of it that this user can open']);
      assert.match(cure, existsSync('/proc/modules') ? /modprobe ion_lite/ : /Boot a kernel/);
    });

    it('says that there is no CMA where the kernel has none', function () {
      if (/^CmaTotal: +[1-9]/m.test(readFileSync('/proc/meminfo', 'utf8'))) this.skip();
      const { subject, verdict, found, cure = '' } = examined().get('CMA') ?? {};
      assert.deepEqual([subject, verdict, found], ['memory', 'warn', 'there is none']);
      assert.match(cure, /CONFIG_DMA_CMA|cma=SIZE/);
    });

    describe('for others than root', () => {
      const nobody = { uid: 65534, gid: 65534 };
      let copy: string;
      let main: string;

      before(function () {
        // They may have no way to it, and only root can be somebody else.
        if (spawnSync(process.execPath, ['-v'], { ...nobody, cwd: '/' }).status !== 0) this.skip();
        // Not in tmpdir(), which may be closed to all others.
        copy = mkdtempSync('/tmp/dmabuf-');
        chmodSync(copy, 0o755);
        const needed = [
          'package.json',
          'dist',
          'build/Release',
          'node_modules/bindings',
          'node_modules/file-uri-to-path',
        ];
        for (const part of needed) cpSync(part, join(copy, part), { recursive: true });
        main = join(copy, 'dist/command/main.js');
      });
      after(() => {
        if (copy) rmSync(copy, { recursive: true });
      });

      it('has the same checks, and ps says that it does not see all', () => {
        const found = examined([], { ...nobody, main });
        assert.deepEqual([...found.keys()], [...examined().keys()]);
        const { status, stdout, stderr } = dmabuf(['ps'], { ...nobody, main });
        assert.equal(status, 0);
        assert.match(stdout, /^INODE /);
        assert.match(stderr, /root sees all buffers/);
        assert.equal(dmabuf(['ps', '--json'], { ...nobody, main }).stderr, '');
      });

      it('knows whether debugfs is there, and may be read', function () {
        const mount = 'mount -t debugfs debugfs /sys/kernel/debug';
        const inside = (script: string) =>
          spawnSync('unshare', ['-m', 'sh', '-c', script, process.execPath, main], { encoding: 'utf8', cwd: '/' });
        if (inside(`${mount} && test -e /sys/kernel/debug/dma_buf/bufinfo`).status !== 0) this.skip();
        const verdict = (prepare: string, as: string) => {
          const { stdout, stderr } = inside(`${prepare} && exec ${as} "$0" "$1" doctor --json`);
          assert.equal(stderr, '');
          const checks: Check[] = JSON.parse(stdout).checks;
          const check = checks.find(({ name }) => name === 'debugfs');
          return `${check?.verdict}: ${check?.found} -> ${check?.cure}`;
        };
        assert.match(verdict(mount, ''), /^ok: dmabuf ps reads \/sys\/kernel\/debug\/dma_buf\/bufinfo/);
        assert.match(
          verdict('mount -t tmpfs none /sys/kernel/debug', ''),
          /^warn: .*is not there -> Run `mount -t debugfs/,
        );
        const nobodys = `setpriv --reuid ${nobody.uid} --regid ${nobody.gid} --clear-groups`;
        assert.match(verdict(mount, nobodys), /^warn: .*cannot be read -> Run dmabuf ps as root/);
      });
    });
  });
});
