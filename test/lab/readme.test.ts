// SPDX-License-Identifier: MIT
/** What the README and the pages of docs/ show is run as it stands there. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PNG } from 'pngjs';
import { combinations } from '../../scripts/src/combinations.ts';
import { projectRoot } from './run-guest.ts';

const page = (name: string) => readFileSync(join(projectRoot, name), 'utf8');
const readme = page('README.md');

const blocks = (language: string, text = readme) =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, code]) => code as string);

const commandsOf = (text: string) =>
  blocks('sh', text)
    .flatMap((block) => block.trim().split('\n'))
    .map((line) => line.replace(/ +#.*/, ''));

const commands = commandsOf(readme);

/** Runs a command in a folder of its own, with files in shared/ there. */
function tryOutAll(command: string, files: Iterable<[name: string, text: string]>) {
  const directory = mkdtempSync(join(tmpdir(), 'dmabuf-readme-'));
  try {
    for (const folder of ['scripts', 'kernel-modules']) symlinkSync(join(projectRoot, folder), join(directory, folder));
    mkdirSync(join(directory, 'shared'));
    for (const [name, text] of files) writeFileSync(join(directory, 'shared', name), text);
    return spawnSync('sh', ['-c', command], { cwd: directory, encoding: 'utf8' });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const tryOut = (command: string, name: string, script: string) => tryOutAll(command, [[name, script]]);

function linksSomewhere(name: string): void {
  for (const [, target] of page(name).matchAll(/\]\(((?!https?:)[^)]+)\)/g)) {
    const [file] = (target as string).split('#');
    assert(existsSync(join(projectRoot, name, '..', file as string)), target);
  }
}

/** The picture as the tour draws it, whatever the compressor makes of it. */
const pixels = (file: string) => PNG.sync.read(readFileSync(file));

describe('README.md', function () {
  this.timeout(240_000);
  this.slow(60_000);

  it('shows these commands, each of which is run here or is the one that runs this', () => {
    assert.deepEqual(commands, ['npm start', 'npm test', 'scripts/guest --share shared -- node /share/paint.ts']);
  });

  it('names a start that draws the picture it shows', () => {
    const picture = join(projectRoot, 'out/tour.png');
    rmSync(picture, { force: true });
    const { status, stdout, stderr } = spawnSync('npm', ['start'], { cwd: projectRoot, encoding: 'utf8' });
    assert.equal(status, 0, `${stdout}${stderr}`);
    for (const claim of [
      /the dma-buf mapped +'hello world'/,
      /the device mapped +'hello world'/,
      /12288 bytes verified, page 1 set to 0x22/,
      /sees 0x11, 0x22, 0x11/,
      /384000 of 384000 pixels are drawn/,
      /1536000 +\/dev\/cma_mem +cma_mem +picture/,
      /12288 +ion_system_heap +ion_lite +three-pages/,
      /ion_dma_heap +ion +\/dev\/ion +contiguous/,
    ]) {
      assert.match(stdout, claim);
    }
    assert.match(stdout.trim().split('\n').at(-1) ?? '', /out\/tour\.png/);
    const [drawn, shown] = [pixels(picture), pixels(join(projectRoot, 'docs/tour.png'))];
    assert.deepEqual([drawn.width, drawn.height], [800, 480]);
    assert.equal(Buffer.compare(drawn.data, shown.data), 0, 'docs/tour.png is not what the tour draws');
  });

  it('has an example that works', () => {
    const { status, stdout, stderr } = tryOut(commands.at(-1) as string, 'paint.ts', blocks('ts')[0] as string);
    assert.equal(stdout, '{ painted: { width: 800, height: 480 } } frame-0 1536000 66\n', stderr);
    assert.equal(status, 0, stderr);
  });

  it('links to nothing that is not there', () => linksSomewhere('README.md'));
});

describe('docs/heaps.md', function () {
  this.timeout(240_000);
  this.slow(60_000);

  it("has examples that work, with a board's table", () => {
    const text = page('docs/heaps.md');
    const [command, ...others] = commandsOf(text);
    assert(command !== undefined && others.length === 0);
    const [first = '', second = ''] = blocks('ts', text);
    const script = `${first}${second.replace("import { openHeap } from 'dmabuf';\n", '').replace('frame', 'other')}`;
    const { status, stdout, stderr } = tryOut(command, 'heaps.ts', `${script}console.log(heap.name, other.size);\n`);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^ion 20 carveout camera true$/m);
    assert.match(stdout, /^ion 30 system system false$/m);
    assert.match(stdout, /buffers: 1,\s+bytes: 1843200,\s+peakBytes: 1843200,.*size: 8388608,\s+largestFree: 6545408/s);
    assert.match(stdout, /^camera 1843200$/m);
  });

  it('links to nothing that is not there', () => linksSomewhere('docs/heaps.md'));
});

describe('docs/command.md', function () {
  this.timeout(240_000);
  this.slow(60_000);
  const [doctor = '', list = '', hold = '', receive = '', send = '', ...others] = commandsOf(page('docs/command.md'));

  it('shows these commands, each of which is run here', () => assert.deepEqual(others, []));

  it('has a doctor for this machine', () => {
    const { status, stdout, stderr } = spawnSync('sh', ['-c', doctor], { cwd: projectRoot, encoding: 'utf8' });
    assert.equal(stderr, '');
    const [, verdict] = /^verdict: (ok|warn|bad) /m.exec(stdout) ?? [];
    assert.equal(status, verdict === 'bad' ? 1 : 0, stdout);
  });

  it('has commands that work in the guest', () => {
    const [guest, first] = list.split(' -- ') as [string, string];
    const [, ...second] = hold.split(' -- ');
    const script = [
      first,
      second.join(' -- '),
      `${receive} &`,
      'until [ -S /tmp/frames ]; do sleep 0.1; done',
      send,
      'wait $!',
      'dmabuf ps',
    ];
    const command = `${guest} --share shared -- sh -e /share/commands.sh`;
    const { status, stdout, stderr } = tryOut(command, 'commands.sh', script.join('\n'));
    assert.equal(status, 0, stderr);
    const [table = '', buffers = '', received = '', left = '', ...more] = stdout.split(/^(?=KIND|INODE|\{)/m);
    assert.match(table, /^ion +ion_system_heap +0 +system +\/dev\/ion +scattered +0 +0 +ok$/m);
    assert.match(buffers, /^ *\d+ +8192 +\w.* +\d+ +node +\d+ +0$/m);
    const bytes = `00000000  ${'42 '.repeat(16)} |${'B'.repeat(16)}|`;
    assert.equal(received, `{"width":1920}\n${bytes}\n*\n00800000\n`);
    assert.match(left, /^INODE.*\n$/);
    assert.deepEqual(more, []);
  });

  it('links to nothing that is not there', () => linksSomewhere('docs/command.md'));
});

describe('docs/buffers.md', function () {
  this.timeout(240_000);
  this.slow(60_000);

  it('is a script that works', () => {
    const text = page('docs/buffers.md');
    const [command, ...others] = commandsOf(text);
    assert(command !== undefined && others.length === 0);
    const { status, stdout, stderr } = tryOut(command, 'buffers.ts', blocks('ts', text).join('\n'));
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^udmabuf cannot be used: ENOENT: .*CONFIG_UDMABUF/m);
    assert.match(stdout, /^ion \/dev\/ion$/m);
    assert.match(stdout, /^30720\n255\n\[ 'picture' \]\npicture 32768 ion_lite \[\s+\{ pid: \d+, command: 'node'/m);
  });

  it('links to nothing that is not there', () => linksSomewhere('docs/buffers.md'));
});

describe('docs/sockets.md', function () {
  this.timeout(60_000);
  this.slow(10_000);

  it('has scripts that work on any machine', () => {
    const text = page('docs/sockets.md');
    const isPool = (block: string) => block.startsWith('// pool.mts\n');
    const all = blocks('ts', text);
    const directory = mkdtempSync(join(tmpdir(), 'dmabuf-readme-'));
    try {
      mkdirSync(join(directory, 'node_modules'));
      symlinkSync(projectRoot, join(directory, 'node_modules/dmabuf'));
      symlinkSync(join(projectRoot, 'node_modules/.bin'), join(directory, 'node_modules/.bin'));
      writeFileSync(join(directory, 'sockets.mts'), all.filter((block) => !isPool(block)).join('\n'));
      writeFileSync(join(directory, 'pool.mts'), all.filter(isPool).join('\n'));
      const outputs = commandsOf(text).map((command) => {
        const { status, stdout, stderr } = spawnSync('sh', ['-c', command], { cwd: directory, encoding: 'utf8' });
        assert.equal(status, 0, stderr);
        return stdout;
      });
      assert.deepEqual(outputs, ['true\n{ width: 32, height: 32 } true <Buffer 62 79 74 65 73>\ntrue\n', '66 3\n']);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('links to nothing that is not there', () => linksSomewhere('docs/sockets.md'));
});

describe('docs/ion-handles.md', function () {
  this.timeout(240_000);
  this.slow(60_000);

  it('has an example that works', () => {
    const text = page('docs/ion-handles.md');
    const [command, ...others] = commandsOf(text);
    assert(command !== undefined && others.length === 0);
    const [script = '', ...more] = blocks('ts', text);
    assert.deepEqual(more, []);
    const { status, stdout, stderr } = tryOut(command, 'port.ts', script);
    assert.equal(status, 0, stderr);
    assert.equal(stdout, 'handle 1: 42\n');
    assert(text.includes('it prints `handle 1: 42`'));
  });

  it('links to nothing that is not there', () => linksSomewhere('docs/ion-handles.md'));
});

describe('docs/abi.md and docs/from-the-tutorials.md', function () {
  this.timeout(240_000);
  this.slow(60_000);
  const abi = page('docs/abi.md');
  const lessons = page('docs/from-the-tutorials.md');

  /** Examples by the name that stands in their first line. */
  const named = (language: string, text: string) =>
    new Map(blocks(language, text).map((code) => [/^\/[/*] ([\w.]+)/.exec(code)?.[1] ?? '', code]));

  it('have examples that work, in C and in TypeScript, of all three devices', () => {
    const [compile = '', runC = '', runTypeScript = '', ...others] = commandsOf(abi);
    const [lesson = '', ...more] = commandsOf(lessons);
    assert.deepEqual([...others, ...more], []);
    const c = named('c', abi);
    const typeScript = new Map([...named('ts', abi), ...named('ts', lessons)]);
    assert.deepEqual([...c.keys()], ['hello.c', 'ion.c', 'frame.c']);
    assert.deepEqual([...typeScript.keys()], ['hello.ts', 'ion.ts', 'frame.ts', 'lesson.ts']);
    // All in one guest.
    const [guest, inGuest] = runC.split(' -- ') as [string, string];
    const [, script] = runTypeScript.split(' -- ') as [string, string];
    const commands = ['hello', 'ion', 'frame'].flatMap((name) => [
      inGuest.replaceAll('hello', name),
      script.replaceAll('hello', name),
    ]);
    const [lessonGuest, lessonCommand] = lesson.split(' -- ') as [string, string];
    assert.equal(lessonGuest, guest);
    const compiles = ['hello', 'ion', 'frame'].map((name) => compile.replaceAll('hello', name));
    const all = `${compiles.join(' && ')} && ${guest} -- sh -ec '${[...commands, lessonCommand].join('\n')}'`;
    const { status, stdout, stderr } = tryOutAll(all, [...c, ...typeScript]);
    assert.equal(status, 0, stderr);
    const twice = (line: string) => `${line}\n${line}\n`;
    assert.equal(
      stdout,
      twice('hello world') +
        twice('12288 bytes of ion, the last one is a') +
        twice('1536000 bytes of cma_mem, the last pixel is 42') +
        'read from dmabuf: hello world\n',
    );
  });

  it('link to nothing that is not there', () => {
    linksSomewhere('docs/abi.md');
    linksSomewhere('docs/from-the-tutorials.md');
  });
});

describe('docs/v4l2.md', function () {
  this.timeout(400_000);
  this.slow(120_000);
  const text = page('docs/v4l2.md');
  const [capture = '', ...examples] = commandsOf(text);

  it('has an example that works', () => {
    const { status, stdout, stderr } = tryOut(capture, 'capture.ts', blocks('ts', text)[0] as string);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^(\d+ 172800 video\d \d\.0 \[ 191, 191, 191 \]\n){3}$/);
  });

  it('shows commands that are the examples the guest tests', () => {
    const tests = page('test/guest/v4l2-examples.test.ts') + page('test/guest/v4l2-codec.test.ts');
    assert.equal(examples.length, 5);
    for (const command of examples) {
      const [, name] =
        /^scripts\/guest(?: --share shared| --kernel lab)? -- node examples\/([\w-]+)\.ts/.exec(command) ?? [];
      assert(name !== undefined && tests.includes(`example('${name}'`), command);
    }
  });

  it('names runs of the matrix that there are', () => {
    const runs = [...text.matchAll(/npm run test:matrix -- --only ([\w.-]+) --file ([\w-]+)/g)];
    assert.equal(runs.length, 2);
    for (const [, combination, file] of runs) {
      assert(combinations.some(({ name }) => name === combination));
      assert(existsSync(join(projectRoot, 'test/guest', `${file}.test.ts`)), file);
    }
  });

  it('links to nothing that is not there', () => linksSomewhere('docs/v4l2.md'));
});

describe('docs/importers.md', () => {
  it('links to nothing that is not there', () => linksSomewhere('docs/importers.md'));
});
