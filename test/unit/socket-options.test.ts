// SPDX-License-Identifier: MIT
/** What an FdSocket can be made with, and where it can listen. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  fstatSync,
  lstatSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DmaBuf, type FdMessage, FdSocket, type FdSocketOptions, MAX_MESSAGE_FDS, openHeap, pidfdGetFd } from 'dmabuf';
import { leavesNothing, PAGE, SEND_BUFFER, withSocketPaths } from '../support.ts';

const script = (name: string) => fileURLToPath(new URL(`./children/${name}`, import.meta.url));

/** Runs a script until its first line of output, which is returned. */
async function startChild(name: string, ...args: string[]) {
  const child = spawn(process.execPath, [script(name), ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = await once(child.stdout.setEncoding('utf8'), 'data');
  return { child, line: String(line).trim() };
}

async function kill(child: Awaited<ReturnType<typeof startChild>>['child']): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** Debian's. */
const PYTHON = '/usr/bin/python3';

/** Starts a process that binds a socket and never listens. */
async function bind(path: string, type = 'SOCK_STREAM') {
  const code = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.${type})
s.bind(sys.argv[1])
print(flush=True)
sys.stdin.read()`;
  const child = spawn(PYTHON, ['-c', code, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

describe('an FdSocket', () => {
  let path: string;
  let sockets: { close(): void }[];

  function pair(options?: FdSocketOptions, other = options): [FdSocket, FdSocket] {
    const [left, taken] = FdSocket.pair(options);
    const { type: _, ...rest } = other ?? {};
    const right = FdSocket.fromFd(taken.takeFd(), rest);
    sockets.push(left, right);
    return [left, right];
  }

  withSocketPaths((...given) => {
    [path, sockets] = given;
  });

  it('refuses options that mean nothing', async () => {
    await leavesNothing(async () => {
      for (const [wrong, code] of [
        [null, 'ERR_INVALID_ARG_TYPE'],
        [{ type: 'dgram' }, 'ERR_INVALID_ARG_VALUE'],
        [{ type: 5 }, 'ERR_INVALID_ARG_TYPE'],
        [{ format: 'xml' }, 'ERR_INVALID_ARG_VALUE'],
        [{ serialization: 'v8' }, 'ERR_INVALID_ARG_VALUE'],
        [{ maxMessageBytes: 0 }, 'ERR_OUT_OF_RANGE'],
        [{ maxMessageBytes: (256 << 20) + 1 }, 'ERR_OUT_OF_RANGE'],
        [{ maxFds: 254 }, 'ERR_OUT_OF_RANGE'],
        [{ maxFds: -1 }, 'ERR_OUT_OF_RANGE'],
        [{ maxFds: '1' }, 'ERR_INVALID_ARG_TYPE'],
      ] as const) {
        assert.throws(() => FdSocket.pair(wrong as never), { code, syscall: 'socketpair' });
        assert.throws(() => FdSocket.listen(path, wrong as never), { code, syscall: 'listen', path });
        await assert.rejects(FdSocket.connect(path, wrong as never), { code, syscall: 'connect', path });
      }
      assert.throws(() => FdSocket.listen(path, { replaceStale: 1 as never }), { code: 'ERR_INVALID_ARG_TYPE' });
      assert.throws(() => FdSocket.pair({ replaceStale: true } as never), { code: 'ERR_INVALID_ARG_VALUE' });
      assert(!existsSync(path));
      const [left, right] = FdSocket.pair();
      const fd = left.takeFd();
      assert.throws(() => FdSocket.fromFd(fd, { type: 'stream' } as never), { code: 'ERR_INVALID_ARG_VALUE' });
      fstatSync(fd);
      closeSync(fd);
      right.close();
    });
  });

  it('says who the peer is', async () => {
    await leavesNothing(async () => {
      const [left] = pair();
      const own = { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() };
      assert.deepEqual(left.peer, own);
      using server = FdSocket.listen(path);
      const child = spawn(process.execPath, [script('connect.mjs'), path], { stdio: ['ignore', 'inherit', 'inherit'] });
      using socket = (await server.accept()) as FdSocket;
      assert.deepEqual(socket.peer, { ...own, pid: child.pid });
      await kill(child as never);
      assert.equal(socket.peer.pid, child.pid);
      socket.close();
      assert.throws(() => socket.peer, { code: 'ERR_DMABUF_CLOSED' });
      for (const each of sockets) each.close();
    });
  });

  for (const type of ['stream', 'seqpacket'] as const) {
    describe(`of type ${type}`, () => {
      it('carries values, bytes and buffers', async () => {
        await leavesNothing(async () => {
          const [left, right] = pair({ type });
          assert.deepEqual([left.type, right.type], [type, type]);
          using buffer = openHeap('memfd').allocSync(PAGE);
          for (const value of [
            { a: [1, null] },
            '',
            Buffer.from([0, 255]),
            Buffer.alloc(0),
            Buffer.alloc(SEND_BUFFER / 2, 7),
          ]) {
            await left.send(value, [buffer]);
            const message = (await right.receive()) as FdMessage;
            assert.deepEqual(message.value, value);
            assert.deepEqual(Object.keys(message), ['value', 'fds']);
            using received = DmaBuf.fromFd(message.fds[0] as number);
            assert.equal(received.inode, buffer.inode);
          }
          left.close();
          assert.equal(await right.receive(), undefined);
          right.close();
        });
      });

      it('listens and connects, on a path and on an abstract name', async () => {
        await leavesNothing(async () => {
          for (const where of [path, `\0dmabuf.test.${process.pid}`]) {
            using server = FdSocket.listen(where, { type });
            assert.equal(existsSync(where.replace('\0', '/')), where === path);
            using client = await FdSocket.connect(where, { type });
            using socket = (await server.accept()) as FdSocket;
            assert.equal(socket.type, type);
            await socket.send('there');
            await client.send('back');
            assert.deepEqual([(await client.receive())?.value, (await socket.receive())?.value], ['there', 'back']);
            assert.throws(() => FdSocket.listen(where, { type }), {
              code: 'EADDRINUSE',
              message: where === path ? /A process listens there/ : /listen '@dmabuf.*A process has that name/,
            });
            // Abstract names are each type's own.
            const other = type === 'stream' ? 'seqpacket' : 'stream';
            await assert.rejects(
              FdSocket.connect(where, { type: other }),
              where === path
                ? { code: 'EPROTOTYPE', message: /same on both/ }
                : { code: 'ECONNREFUSED', message: /Nobody listens on that name with this type/ },
            );
          }
          await assert.rejects(FdSocket.connect(`\0dmabuf.test.${process.pid}`, { type }), {
            code: 'ECONNREFUSED',
            message: /Nobody listens on that name with this type/,
          });
        });
      });

      it('waits for a peer that does not read, and loses nothing', async () => {
        await leavesNothing(async () => {
          const [left, right] = pair({ type });
          using buffer = openHeap('memfd').allocSync(PAGE);
          let sent = 0;
          const padding = 'p'.repeat(SEND_BUFFER / 40);
          const all = Array.from({ length: 500 }, (_, index) =>
            left.send({ index, padding }, index % 5 ? [] : [buffer]).then(() => sent++),
          );
          await new Promise((resolve) => setImmediate(resolve));
          assert(sent < 200, `${sent} of 500 messages sent to nobody`);
          for (let index = 0; index < 500; index++) {
            const message = (await right.receive()) as FdMessage;
            assert.equal((message.value as { index: number }).index, index);
            assert.equal(message.fds.length, index % 5 ? 0 : 1);
            message.fds.forEach(closeSync);
          }
          await Promise.all(all);
          left.close();
          right.close();
        });
      });

      it('takes no more of a peer than it allows, and closes what came', async () => {
        await leavesNothing(async () => {
          using buffer = openHeap('memfd').allocSync(PAGE);
          const [left, right] = pair({ type }, { maxFds: 2, maxMessageBytes: 1000 });
          await left.send('x'.repeat(998), [buffer, buffer]);
          ((await right.receive()) as FdMessage).fds.forEach(closeSync);
          await assert.rejects(right.send('x'.repeat(999)), { code: 'ERR_OUT_OF_RANGE', message: /1000 bytes/ });
          await left.send('x', [buffer, buffer, buffer]);
          await assert.rejects(right.receive(), { code: 'ERR_DMABUF_PROTOCOL', message: /3 descriptors/ });
          const [one, other] = pair({ type }, { maxMessageBytes: 1000 });
          await one.send('x'.repeat(999), [buffer]);
          await assert.rejects(other.receive(), { code: 'ERR_DMABUF_PROTOCOL', message: /1001 bytes|than 1012 bytes/ });
          for (const socket of sockets) socket.close();
        });
      });

      it("has V8's serialization only where both sides ask", async () => {
        const [left, right] = pair({ type, format: 'v8' });
        const value = {
          date: new Date(0),
          map: new Map([[1n, new Set(['x'])]]),
          nothing: undefined,
          bytes: Buffer.of(1),
        };
        await left.send(value);
        assert.deepEqual((await right.receive())?.value, value);
        await assert.rejects(
          left.send(() => 0),
          /could not be cloned/,
        );
        await left.send('fine');
        assert.equal((await right.receive())?.value, 'fine');

        const [asks, doesNot] = pair({ type, format: 'v8' }, {});
        // JSON is good for both.
        await doesNot.send({ a: 1 });
        assert.deepEqual((await asks.receive())?.value, { a: 1 });
        await asks.send({ a: 1 });
        await assert.rejects(doesNot.receive(), {
          code: 'ERR_DMABUF_PROTOCOL',
          message: /has not asked.*format: 'v8'/,
        });
      });

      it('refuses what V8 cannot read', async () => {
        const [victim, raw] = pair({ type, format: 'v8' }, { format: 'raw' });
        await raw.send(Buffer.from([3, 0, 0, 0, 0, 0, 2, 0, 0xff, 0x0f, 0x7f]));
        await assert.rejects(victim.receive(), { code: 'ERR_DMABUF_PROTOCOL', message: /no value of V8/ });
      });

      it('gives bytes and descriptors as they come in raw mode', async () => {
        await leavesNothing(async () => {
          const [left, right] = pair({ type, format: 'raw' });
          using buffer = openHeap('memfd').allocSync(PAGE);
          await left.send(Buffer.from('l\x01\0\x01'), [buffer, buffer]);
          const { value, fds } = (await right.receive()) as FdMessage;
          assert.deepEqual(value, Buffer.from('l\x01\0\x01'));
          assert.equal(fds.length, 2);
          fds.forEach(closeSync);
          for (const wrong of ['text', 1, null, {}]) {
            await assert.rejects(left.send(wrong), { code: 'ERR_INVALID_ARG_TYPE', message: /raw/ });
          }
          // A descriptor without a byte would be lost.
          await assert.rejects(left.send(Buffer.alloc(0), [buffer]), { code: 'ERR_OUT_OF_RANGE' });
          await assert.rejects(left.release(1), { code: 'ERR_DMABUF_UNSUPPORTED' });
          left.close();
          assert.equal(await right.receive(), undefined);
          right.close();
        });
      });

      it('keeps raw bytes that have to wait, whatever becomes of the array', async () => {
        const [left, right] = pair({ type, format: 'raw' });
        const pending: Promise<void>[] = [];
        const length = Math.ceil(SEND_BUFFER / 20);
        for (let index = 0; index < 100; index++) {
          const bytes = Buffer.alloc(length, index);
          pending.push(left.send(bytes));
          bytes.fill(0xff);
        }
        let seen = 0;
        for await (const { value } of right) {
          for (const byte of value as Buffer) {
            if (byte !== Math.floor(seen++ / length)) assert.fail(`${byte} at ${seen - 1}`);
          }
          if (seen === 100 * length) break;
        }
        await Promise.all(pending);
      });

      it('has a limit of raw bytes at once', async () => {
        const [left, right] = pair({ type, format: 'raw' }, { format: 'raw', maxMessageBytes: 10 });
        await left.send(Buffer.from('0123456789'));
        assert.deepEqual((await right.receive())?.value, Buffer.from('0123456789'));
        await left.send(Buffer.from('0123456789abc'));
        if (type === 'seqpacket') {
          await assert.rejects(right.receive(), { code: 'ERR_DMABUF_PROTOCOL', message: /more than 10 bytes/ });
          return;
        }
        for (const piece of ['0123456789', 'abc']) assert.deepEqual((await right.receive())?.value, Buffer.from(piece));
      });

      it('refuses raw descriptors beyond the limit', async () => {
        await leavesNothing(async () => {
          const [left, right] = pair({ type, format: 'raw' }, { format: 'raw', maxFds: 0 });
          using buffer = openHeap('memfd').allocSync(PAGE);
          await left.send(Buffer.of(1));
          assert.deepEqual(await right.receive(), { value: Buffer.of(1), fds: [] });
          await left.send(Buffer.of(1), [buffer]);
          await assert.rejects(right.receive(), { code: 'ERR_DMABUF_PROTOCOL' });
          left.close();
        });
      });
    });
  }

  describe('of type seqpacket', () => {
    it('refuses a message that is too long for one record, and goes on', async () => {
      const [left, right] = pair({ type: 'seqpacket', maxMessageBytes: 256 << 20 });
      const long = 'x'.repeat(SEND_BUFFER);
      await assert.rejects(left.send(long), { code: 'EMSGSIZE', errno: -90, message: /send buffer/ });
      await left.send('fine');
      assert.equal((await right.receive())?.value, 'fine');
    });

    it('tells an empty record from the end', async () => {
      const listener = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
for record in (b'', b'x', b'', b''): s.send(record)
s.recv(1)`;
      using server = FdSocket.listen(path, { type: 'seqpacket', format: 'raw' });
      spawn(PYTHON, ['-c', listener, path], { stdio: 'inherit' });
      using socket = (await server.accept()) as FdSocket;
      for (const expected of ['', 'x', '', '']) {
        assert.deepEqual(await socket.receive(), { value: Buffer.from(expected), fds: [] });
      }
      await socket.send(Buffer.of(1));
      assert.equal(await socket.receive(), undefined);
    });

    for (const [what, records] of Object.entries({
      'half a header': [[1, 0, 0]],
      'a record of two messages': [[1, 0, 0, 0, 0, 0, 0, 0, 0x31, 1, 0, 0, 0, 0, 0, 0, 0, 0x31]],
      'a message in two records': [[2, 0, 0, 0, 0, 0, 0, 0, 0x31], [0x32]],
      'a record longer than its message': [[1, 0, 0, 0, 0, 0, 0, 0, 0x31, 0x32]],
    })) {
      it(`refuses ${what}`, async () => {
        const [victim, raw] = pair({ type: 'seqpacket' }, { format: 'raw' });
        for (const record of records) await raw.send(Buffer.from(record)).catch(() => {});
        await assert.rejects(victim.receive(), { code: 'ERR_DMABUF_PROTOCOL', message: /not one message/ });
        assert(victim.closed);
      });
    }
  });

  describe('of a peer that is gone', () => {
    it('still gives what the peer had sent, when messages to it had to wait', async () => {
      const [left, right] = pair({ maxMessageBytes: 256 << 20 });
      const waiting = left.send('w'.repeat(2 * SEND_BUFFER));
      const failed = assert.rejects(waiting, { code: 'EPIPE' });
      await right.send('last words');
      right.close();
      await failed;
      assert.equal((await left.receive())?.value, 'last words');
      // ECONNRESET, because it has not read ours, is the end as well.
      assert.equal(await left.receive(), undefined);
    });

    for (const type of ['stream', 'seqpacket'] as const) {
      it(`still gives what the peer had sent, which had not read all (${type})`, async () => {
        await leavesNothing(async () => {
          const [left, right] = pair({ type });
          using buffer = openHeap('memfd').allocSync(PAGE);
          await left.send('unread');
          for (const words of ['more', 'last words']) await right.send(words, [buffer]);
          right.close();
          for (const words of ['more', 'last words']) {
            const { value, fds } = (await left.receive()) as FdMessage;
            fds.forEach(closeSync);
            assert.equal(value, words);
          }
          assert.equal(await left.receive(), undefined);
          left.close();
        });
      });

      it(`refuses messages to it, whether it had read all or not (${type})`, async () => {
        for (const unread of [true, false]) {
          const [left, right] = pair({ type });
          if (unread) await left.send('unread');
          right.close();
          const gone = { code: 'EPIPE', errno: -32, message: /The peer has closed the connection/ };
          await assert.rejects(left.send('too late'), gone);
        }
      });
    }
  });

  it('refuses kinds of messages that there are not', async () => {
    for (const [kind, flags] of [
      [4, 0],
      [255, 0],
      [0, 2],
      [3, 1],
    ] as const) {
      const [victim, raw] = pair({}, { format: 'raw' });
      await raw.send(Buffer.from([4, 0, 0, 0, 0, 0, kind, flags, 0x31, 0x31, 0x31, 0x31]));
      await assert.rejects(victim.receive(), { code: 'ERR_DMABUF_PROTOCOL', message: /no kind there is/ });
    }
  });

  it('refuses the end of a loan that there is not, and a loan without a number', async () => {
    for (const bytes of [
      [4, 0, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 3, 0],
      [2, 0, 0, 0, 0, 0, 0, 1, 0x31, 0x31],
    ]) {
      const [victim, raw] = pair({}, { format: 'raw' });
      await raw.send(Buffer.from(bytes));
      await assert.rejects(victim.receive(), { code: 'ERR_DMABUF_PROTOCOL', message: /loan/ });
    }
  });

  it('reads JSON of great depth', async () => {
    const [victim, raw] = pair({}, { format: 'raw' });
    const depth = 200_000;
    const header = Buffer.alloc(8);
    header.writeUInt32LE(2 * depth);
    void raw.send(Buffer.concat([header, Buffer.alloc(depth, '['), Buffer.alloc(depth, ']')]));
    let { value } = (await victim.receive()) as FdMessage;
    let levels = 0;
    for (; Array.isArray(value); levels++) [value] = value;
    assert.equal(levels, depth);
  });

  describe('at a path', () => {
    it('leaves alone what has been put there meanwhile', () => {
      const server = FdSocket.listen(path);
      rmSync(path);
      const other = FdSocket.listen(path);
      server.close();
      assert(existsSync(path));
      renameSync(path, `${path}.moved`);
      other.close();
      assert(existsSync(`${path}.moved`));
    });

    it('says that a file there is no socket, and replaces it never', () => {
      closeSync(openSync(path, 'w'));
      for (const replaceStale of [false, true]) {
        assert.throws(() => FdSocket.listen(path, { replaceStale }), { code: 'EADDRINUSE', message: /is no socket/ });
      }
      assert(lstatSync(path).isFile());
    });

    for (const type of ['stream', 'seqpacket'] as const) {
      it(`takes the place of a stale socket when asked to, and of no other (${type})`, async () => {
        const { child } = await startChild('abandon.mjs', path, type);
        for (const other of ['stream', 'seqpacket'] as const) {
          assert.throws(() => FdSocket.listen(path, { replaceStale: true, type: other }), {
            code: 'EADDRINUSE',
            message: /A process listens there/,
          });
        }
        const before = lstatSync(path, { bigint: true }).ino;
        await kill(child);
        assert.equal(lstatSync(path, { bigint: true }).ino, before);
        assert.throws(() => FdSocket.listen(path), { code: 'EADDRINUSE', message: /is gone.*replaceStale/ });
        await assert.rejects(FdSocket.connect(path), {
          code: 'ECONNREFUSED',
          message: /nobody listens on it any more/,
        });
        using server = FdSocket.listen(path, { replaceStale: true, type });
        using client = await FdSocket.connect(path, { type });
        assert.throws(() => FdSocket.listen(path, { replaceStale: true, type }), { code: 'EADDRINUSE' });
        using socket = (await server.accept()) as FdSocket;
        await socket.send('there');
        assert.equal((await client.receive())?.value, 'there');
      });
    }

    // /proc/net/unix, where its name is looked for, quotes none.
    for (const [what, end] of Object.entries({
      'a plain name': '',
      'two spaces in its name': 'a  b',
      'a space at the end': ' ',
      'a carriage return': 'a\rb',
      'a line separator': 'a\u2028b',
      'a line feed': 'a\nb',
    })) {
      it(`takes a socket that does not listen yet for no stale one (${what})`, async () => {
        path += end;
        const child = await bind(path);
        assert.throws(() => FdSocket.listen(path, { replaceStale: true }), { code: 'EADDRINUSE' });
        assert(existsSync(path));
        child.stdin.end();
        await once(child, 'exit');
        const listen = () => FdSocket.listen(path, { replaceStale: true }).close();
        // Such a name nobody can look for.
        if (path.includes('\n')) assert.throws(listen, { code: 'EADDRINUSE' });
        else listen();
      });
    }

    for (const [where, prefix] of [
      ['a path', ''],
      ['an abstract name', '\0'],
    ] as const) {
      it(`is reached at ${where} that was bound a moment before it listens`, async () => {
        const code = `import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(b'\\0' + sys.argv[1].encode() if sys.argv[2] else sys.argv[1])
print(flush=True)
time.sleep(0.2)
s.listen()
s.accept()[0].recv(1)`;
        const child = spawn(PYTHON, ['-c', code, path, prefix && 'abstract'], { stdio: ['ignore', 'pipe', 'inherit'] });
        const ended = once(child, 'exit');
        await once(child.stdout, 'data');
        using socket = await FdSocket.connect(prefix + path);
        socket.close();
        assert.deepEqual(await ended, [0, null]);
      });
    }

    it('waits for nothing where the name is also that of a socket that never listens, of datagrams', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
      const child = await bind(join(folder, basename(path)), 'SOCK_DGRAM');
      const gone = await bind(path);
      gone.kill('SIGKILL');
      await once(gone, 'exit');
      let attempts = 0;
      const timer = setInterval(() => attempts++, 1);
      try {
        await assert.rejects(FdSocket.connect(path), {
          code: 'ECONNREFUSED',
          message: /nobody listens on it any more/,
        });
      } finally {
        clearInterval(timer);
        child.kill('SIGKILL');
        await once(child, 'exit');
        rmSync(folder, { recursive: true });
      }
      // Each attempt waits for 5 ms.
      assert(attempts < 100, `${attempts} ms`);
    });

    it('is given up where it is bound and never listens', async () => {
      const child = await bind(path);
      await assert.rejects(FdSocket.connect(path), { code: 'ECONNREFUSED' });
      child.stdin.end();
      await once(child, 'exit');
    });

    it('settles accept() where it cannot remove its path', async () => {
      // Where any user may look.
      const closed = mkdtempSync('/tmp/dmabuf-');
      const server = FdSocket.listen(join(closed, 'socket'));
      const waiting = server.accept();
      chmodSync(closed, 0o555);
      const isRoot = process.geteuid?.() === 0;
      try {
        if (isRoot) process.seteuid?.(65534);
        assert.throws(() => server.close(), { code: 'EACCES' });
      } finally {
        if (isRoot) process.seteuid?.(0);
        chmodSync(closed, 0o700);
        rmSync(closed, { recursive: true });
      }
      assert.equal(await waiting, undefined);
      assert(server.closed);
      server.close();
    });

    it('follows no link to a stale socket', async () => {
      const { child } = await startChild('abandon.mjs', path, 'stream');
      await kill(child);
      symlinkSync(path, `${path}.link`);
      assert.throws(() => FdSocket.listen(`${path}.link`, { replaceStale: true }), { code: 'EADDRINUSE' });
      assert(existsSync(`${path}.link`));
    });

    it('is refused where no file can be made', () => {
      if (process.getuid?.() === 0) return;
      assert.throws(() => FdSocket.listen('/proc/x'), { code: /EACCES|ENOENT/ });
    });

    it('refuses names that are none', async () => {
      assert.throws(() => FdSocket.listen('\0'), { code: 'ERR_INVALID_ARG_VALUE' });
      assert.throws(() => FdSocket.listen(`\0${'x'.repeat(108)}`), { code: 'ERR_OUT_OF_RANGE', message: /108 bytes/ });
      await assert.rejects(FdSocket.connect('a\0b'), { code: 'ERR_INVALID_ARG_VALUE' });
      FdSocket.listen(`\0${'x'.repeat(107)}`).close();
    });

    it('reaches servers of node:net', async () => {
      const server = createServer((socket) => socket.end('hello')).listen(path);
      await once(server, 'listening');
      using client = await FdSocket.connect(path, { format: 'raw' });
      assert.deepEqual((await client.receive())?.value, Buffer.from('hello'));
      assert.equal(await client.receive(), undefined);
      server.close();
    });
  });
});

describe('pidfdGetFd', () => {
  it("takes a duplicate of another process's buffer", async () => {
    await leavesNothing(async () => {
      const { child, line } = await startChild('pidfd.mjs');
      const pid = child.pid as number;
      using buffer = DmaBuf.fromFd(pidfdGetFd(pid, Number(line)));
      assert.equal(buffer.name, 'theirs');
      child.stdin.end('close it\n');
      assert.deepEqual(await once(child, 'exit'), [0, null]);
      assert.equal(
        buffer.read((bytes) => bytes[PAGE - 1]),
        0x55,
      );
      assert.throws(() => pidfdGetFd(pid, 0), { code: 'ESRCH', errno: -3, syscall: 'pidfd_getfd' });
    });
  });

  it('says what is wrong', () => {
    assert.throws(() => pidfdGetFd(process.pid, 9999), { code: 'EBADF', path: `/proc/${process.pid}/fd/9999` });
    assert.throws(() => pidfdGetFd(0, 0), { code: 'ERR_OUT_OF_RANGE' });
    assert.throws(() => pidfdGetFd(1, '1' as never), { code: 'ERR_INVALID_ARG_TYPE' });
    assert.equal(MAX_MESSAGE_FDS, 253);
  });
});
