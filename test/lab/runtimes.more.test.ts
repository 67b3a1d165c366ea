// SPDX-License-Identifier: MIT
/** What the README says of Bun and Deno, of the releases it names, out of the npm registry. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { projectRoot } from './run-guest.ts';

const arch = process.arch === 'arm64' ? { bun: 'aarch64', deno: 'arm64' } : { bun: 'x64', deno: 'x64' };

const runtimes = {
  Bun: { package: `@oven/bun-linux-${arch.bun}`, program: 'bin/bun', args: [] },
  Deno: { package: `@deno/linux-${arch.deno}-glibc`, program: 'deno', args: ['run', '--allow-all'] },
};

/** Says a word for each thing that works. */
const buffers = `
const heap = openHeap('memfd');
console.log('heaps', heaps().length > 0);
const buffer = await heap.alloc(2 * PAGE_SIZE);
buffer.write((bytes) => bytes.fill(7));
const copy = DmaBuf.fromFd(buffer.dup().takeFd()).copy({ offset: PAGE_SIZE - 1, length: 1 });
console.log('buffers', new Uint8Array(copy)[0]);
const mapping = buffer.map({ offset: PAGE_SIZE });
new Uint8Array(mapping.buffer)[0] = 9;
mapping.close();
console.log('mappings', buffer.read((bytes) => bytes[PAGE_SIZE]), mapping.buffer.byteLength);
`;
const buffersSaid = 'heaps true\nbuffers 7\nmappings 9 0\n';

const sockets = `
const [left, right] = FdSocket.pair();
setTimeout(() => left.send('text', [openHeap('memfd').allocSync(1)]), 50);
const { value, fds } = await right.receive();
console.log('sockets', value, fds.length);
left.close();
right.close();
`;

describe('what the README says of', function () {
  this.timeout(300_000);
  this.slow(60_000);
  const folders: string[] = [];
  after(() => {
    for (const folder of folders) rmSync(folder, { recursive: true });
  });

  /** Runs scripts by the release of the README; undefined where the registry has none for us. */
  function runner(name: keyof typeof runtimes): ((body: string) => ReturnType<typeof run>) | undefined {
    const { package: archive, program, args } = runtimes[name];
    const readme = readFileSync(join(projectRoot, 'README.md'), 'utf8');
    const version = new RegExp(`\\b${name} (\\d+\\.\\d+\\.\\d+)`).exec(readme)?.[1];
    assert(version, `the README names no release of ${name}`);
    const folder = mkdtempSync(join(tmpdir(), 'dmabuf-runtime-'));
    folders.push(folder);
    const packed = spawnSync('npm', ['pack', '--silent', `${archive}@${version}`], { cwd: folder, encoding: 'utf8' });
    if (packed.status !== 0) return undefined;
    spawnSync('tar', ['xzf', packed.stdout.trim()], { cwd: folder });
    return (body) => run(folder, [join(folder, 'package', program), ...args], body);
  }

  function run(folder: string, [program, ...args]: string[], body: string) {
    const script = join(folder, 'script.mjs');
    const library = pathToFileURL(join(projectRoot, 'dist/index.js'));
    const imported = `import { DmaBuf, FdSocket, heaps, openHeap, PAGE_SIZE } from '${library}';`;
    writeFileSync(script, `${imported}\n${body}`);
    return spawnSync(program as string, [...args, script], { cwd: folder, encoding: 'utf8', timeout: 60_000 });
  }

  it('Bun: it runs heaps, buffers and mappings, and ends where a socket has to wait', function () {
    const bun = runner('Bun');
    if (bun === undefined) return this.skip();
    const { status, stdout, stderr } = bun(buffers);
    assert.deepEqual({ status, stdout }, { status: 0, stdout: buffersSaid }, stderr);
    const waiting = bun(sockets);
    assert.notEqual(waiting.status, 0);
    assert.match(waiting.stderr, /uv_poll_init/);
  });

  it('Deno: it runs them all, and aborts when it ends', function () {
    const deno = runner('Deno');
    if (deno === undefined) return this.skip();
    const { status, stdout, stderr } = deno(`${buffers}${sockets}`);
    assert.equal(stdout, `${buffersSaid}sockets text 1\n`, stderr);
    assert.notEqual(status, 0, 'it ends as it should: say so in the README');
  });
});
