// SPDX-License-Identifier: MIT
/** Setting a guest up from nothing when things go wrong: nothing half-made may stay. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guest, startGuest, until } from './run-guest.ts';

const root = process.getuid?.() === 0;

/** The mirror this machine's apt uses for Debian itself. */
function mirror(): string | undefined {
  const { DMABUF_DEBIAN_MIRROR } = process.env;
  const format = '$(ORIGIN) $(LABEL) $(REPO_URI)';
  const targets = execFileSync('apt-get', ['indextargets', '--format', format], { encoding: 'utf8' });
  return DMABUF_DEBIAN_MIRROR ?? /^Debian Debian (\S+)$/m.exec(targets)?.[1];
}

/** A mirror that hands on what the real one has, packages spoilt in some way. */
class SpoiltMirror {
  readonly #server: Server;
  packages = 0;
  /** How often the package lists were asked for. */
  lists = 0;
  /** Whether the mirror has this file no more. */
  gone: (path: string) => boolean = () => false;
  spoil: (from: IncomingMessage, to: ServerResponse) => void = () => {};

  constructor(origin: string) {
    this.#server = createServer((asked, answer) => {
      const url = new URL(`.${asked.url}`, origin);
      const ask = url.protocol === 'https:' ? secureRequest : request;
      const hand = ask(url, { headers: { ...asked.headers, host: url.host } }, (from) => {
        if (url.pathname.endsWith('/InRelease')) this.lists++;
        if (this.gone(url.pathname)) {
          from.resume();
          return void answer.writeHead(404).end();
        }
        answer.writeHead(from.statusCode ?? 502, from.headers);
        if (!url.pathname.endsWith('.deb') || from.statusCode !== 200) return void from.pipe(answer);
        this.packages++;
        this.spoil(from, answer);
      });
      hand.on('error', () => answer.destroy());
      hand.end();
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

describe('an empty cache', function () {
  this.timeout(240_000);
  this.slow(60_000);
  let cache: string;

  beforeEach(() => {
    cache = mkdtempSync(join(tmpdir(), 'dmabuf-cache-'));
  });
  afterEach(() => rmSync(cache, { recursive: true, force: true }));

  /** What a later run would take for good. */
  const entries = () => readdirSync(cache).filter((name) => !name.startsWith('.') && !name.startsWith('apt-'));
  const parts = () => readdirSync(cache).filter((name) => name.startsWith('.part-'));

  describe('with a bad mirror', () => {
    let spoilt: SpoiltMirror;
    let uri: string;

    before(async function () {
      const origin = mirror();
      if (!origin) this.skip();
      spoilt = new SpoiltMirror(origin);
      uri = await spoilt.listen();
    });
    after(() => spoilt?.close());

    it('keeps nothing of a download cut off half-way', async () => {
      spoilt.spoil = (from, to) => {
        const half = Number(from.headers['content-length']) / 2;
        let sent = 0;
        from.on('data', (data: Buffer) => {
          sent += data.length;
          to.write(data, () => sent > half && to.destroy());
        });
      };
      const { code, stderr } = await guest(['--', 'true'], '', { DMABUF_CACHE: cache, DMABUF_DEBIAN_MIRROR: uri });
      assert(spoilt.packages > 0, stderr);
      assert.match(stderr, /fetching .* failed/);
      assert.equal(code, 125);
      assert.deepEqual([...entries(), ...parts()], []);
    });

    it('keeps nothing whose checksum is wrong', async () => {
      spoilt.spoil = (from, to) => {
        from.on('data', (data: Buffer) => {
          data[0] = (data[0] as number) ^ 1;
          to.write(data);
        });
        from.on('end', () => to.end());
      };
      const { code, stderr } = await guest(['--', 'true'], '', { DMABUF_CACHE: cache, DMABUF_DEBIAN_MIRROR: uri });
      assert.match(stderr, /Hash Sum mismatch/);
      assert.equal(code, 125);
      assert.deepEqual([...entries(), ...parts()], []);
    });

    it('reads the lists again when a package of them is gone, and carries on', async function () {
      // The rest of a guest's making comes after it.
      this.timeout(600_000);
      spoilt.spoil = (from, to) => void from.pipe(to);
      spoilt.lists = 0;
      let name: string | undefined;
      let asked = 0;
      // The first one asked for is missing until the lists were read once more.
      spoilt.gone = (path) => {
        if (!path.endsWith('.deb')) return false;
        name ??= path;
        if (path === name) asked++;
        return path === name && spoilt.lists < 2;
      };
      const { code, stderr } = await guest(['--', 'true'], '', { DMABUF_CACHE: cache, DMABUF_DEBIAN_MIRROR: uri });
      assert.equal(code, 0, stderr);
      assert.match(stderr, /the package lists are read again/);
      assert(asked >= 2);
    });

    it('reads the lists again of a mirror that was being updated, and comes to the packages', async () => {
      spoilt.lists = 0;
      let [missing, packages] = [0, 0];
      spoilt.gone = (path) => {
        if (path.endsWith('.deb')) packages++;
        const gone = path.includes('/binary-') && spoilt.lists < 2;
        if (gone) missing++;
        return gone || path.endsWith('.deb');
      };
      const { code, stderr } = await guest(['--', 'true'], '', { DMABUF_CACHE: cache, DMABUF_DEBIAN_MIRROR: uri });
      spoilt.gone = () => false;
      assert.equal(code, 125);
      assert.match(stderr, /the package lists are read again/);
      assert(missing > 0 && packages > 0, stderr);
      assert.equal(spoilt.lists, 2);
    });

    it('ends where a package stays gone, after reading the lists twice', async () => {
      spoilt.lists = 0;
      spoilt.gone = (path) => path.endsWith('.deb');
      const { code, stderr } = await guest(['--', 'true'], '', { DMABUF_CACHE: cache, DMABUF_DEBIAN_MIRROR: uri });
      spoilt.gone = () => false;
      assert.equal(code, 125);
      assert.match(stderr, /the mirror does not have what its lists promise: try again later/);
      assert.equal(spoilt.lists, 2);
      assert.deepEqual([...entries(), ...parts()], []);
    });

    it('keeps nothing of a download stopped by Ctrl-C', async () => {
      // The packages never come.
      spoilt.spoil = () => {};
      spoilt.packages = 0;
      const { child, ended } = startGuest(['--', 'true'], { DMABUF_CACHE: cache, DMABUF_DEBIAN_MIRROR: uri });
      assert(await until(() => spoilt.packages > 0, 60));
      child.kill('SIGINT');
      const { code, stderr } = await ended;
      assert.equal(code, 130, stderr);
      assert.match(stderr, /stopped by SIGINT/);
      assert.deepEqual([...entries(), ...parts()], []);
    });
  });

  it('is filled by two runs at once, and neither sees half of anything', async function () {
    this.timeout(600_000);
    // Nothing built here is quick enough to be there before the other one looks.
    const both = await Promise.all([1, 2].map(() => guest(['--', 'true'], '', { DMABUF_CACHE: cache })));
    for (const { code, stderr } of both) assert.equal(code, 0, stderr);
    assert.deepEqual(parts(), []);
    const kinds = entries().map((name) => name.replace(/-[0-9a-f]+$/, ''));
    // Two sets of packages: the kernel's and the programs'. All else once.
    assert.deepEqual(kinds.sort(), [
      'bridge',
      'initrd',
      'kernel',
      'modules',
      'npm',
      'packages',
      'packages',
      'userland',
    ]);
  });

  it('on a mirror that is not there says so', async () => {
    const { code, stderr } = await guest(['--', 'true'], '', {
      DMABUF_CACHE: cache,
      DMABUF_DEBIAN_MIRROR: 'http://127.0.0.1:9/debian',
    });
    assert.match(stderr, /reading Debian's package lists failed/);
    assert.equal(code, 125);
  });

  it('on a full disk says how much is needed and where else it may go', async function () {
    if (!root) this.skip();
    const small = join(cache, 'small');
    mkdirSync(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'small', small]);
    try {
      const { code, stderr } = await guest(['--', 'true'], '', { DMABUF_CACHE: small });
      assert.match(stderr, /has 1 MiB free and this needs \d+ MiB: make room, or name another place by DMABUF_CACHE/);
      assert.equal(code, 125);
    } finally {
      execFileSync('umount', [small]);
    }
  });

  it('where one may not write says so', async () => {
    const { code, stderr } = await guest(['--', 'true'], '', { DMABUF_CACHE: '/proc/no' });
    assert.match(stderr, /cannot (write to|lock) \/proc\/no/);
    assert.equal(code, 125);
  });

  it('on a machine that lacks packages and lets nobody install them prints which', async function () {
    if (!root) this.skip();
    // In a name space of its own, dpkg knows of no package. That user cannot enter the TMPDIR of these tests.
    const script = 'mount -t tmpfs none /var/lib/dpkg && exec setpriv --reuid 65534 --clear-groups "$@"';
    const wrapper = ['unshare', '--mount', 'sh', '-c', script, 'sh'];
    const { child, ended } = startGuest(
      ['--', 'true'],
      { DMABUF_CACHE: cache, HOME: '/nonexistent', TMPDIR: '/tmp' },
      wrapper,
    );
    child.stdin?.end();
    const { code, stderr } = await ended;
    assert.match(stderr, /apt-get install --no-install-recommends .*qemu-system-arm/);
    assert.equal(code, 125);
  });
});
