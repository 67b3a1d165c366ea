// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { createHook } from 'node:async_hooks';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, fstatSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { DmaBuf, type FdMessage, FdSocket, type Heap, MAX_MESSAGE_BYTES, MAX_MESSAGE_FDS, openHeap } from 'dmabuf';
import { leavesNothing, openFds, PAGE, withSocketPaths } from '../support.ts';

function child(
  script: string,
  args: string[],
  stdio: (number | 'inherit' | 'ignore')[] = [],
  fds = 1024,
): ChildProcess {
  const path = fileURLToPath(new URL(`./children/${script}`, import.meta.url));
  const limited = ['-c', `ulimit -n ${fds} && exec "$0" "$@"`, process.execPath, path, ...args];
  return spawn('sh', limited, { stdio: ['ignore', 'inherit', 'inherit', ...stdio] });
}

function header(length: number, fds: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt32LE(fds, 4);
  return bytes;
}

describe('FdSocket', () => {
  let heap: Heap;
  let path: string;
  let sockets: { close(): void }[];

  function pair(): [FdSocket, FdSocket] {
    const both = FdSocket.pair();
    sockets.push(...both);
    return both;
  }

  before(() => {
    heap = openHeap('memfd');
  });
  withSocketPaths((...given) => {
    [path, sockets] = given;
  });

  it('carries every JSON value, in order', async () => {
    const [left, right] = pair();
    const values = [null, 0, -1.5, '', 'ü\0', [], [1, [2]], { a: { b: true } }, 'x'.repeat(100_000)];
    const sent = Promise.all(values.map((value) => left.send(value)));
    for (const value of values) assert.deepEqual(await right.receive(), { value, fds: [] });
    await sent;
    left.close();
    assert.equal(await right.receive(), undefined);
    assert.equal(await right.receive(), undefined);
  });

  it('refuses what JSON cannot hold, and goes on', async () => {
    const [left, right] = pair();
    const circular: { self?: unknown } = {};
    circular.self = circular;
    for (const value of [undefined, () => 0, Symbol('s'), 1n, circular]) {
      await assert.rejects(left.send(value), { name: 'TypeError', code: /^ERR_INVALID_ARG_(TYPE|VALUE)$/ });
    }
    let deep: unknown[] = [];
    for (let depth = 0; depth < 100_000; depth++) deep = [deep];
    // Node.js 26 nests what has no toJSON() as deep as it may be.
    const tooDeep = left.send({ deep, toJSON: () => ({ deep, date: new Date() }) });
    await assert.rejects(tooDeep, { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: /call stack/ });
    const mine = new SyntaxError('mine');
    const toJSON = () => {
      throw mine;
    };
    await assert.rejects(left.send({ toJSON }), mine);
    await left.send('fine');
    assert.equal((await right.receive())?.value, 'fine');
  });

  it('carries buffers and plain descriptors, which the receiver owns', async () => {
    await leavesNothing(async () => {
      const [left, right] = pair();
      using buffer = heap.allocSync(PAGE, { name: 'both' });
      const file = openSync('/etc/passwd', 'r');
      await left.send('three', [buffer, file, buffer.fd]);
      const { ino } = fstatSync(file);
      closeSync(file);
      const { fds } = (await right.receive()) as FdMessage;
      assert.equal(fds.length, 3);
      assert.equal(fstatSync(fds[1] as number).ino, ino);
      using one = DmaBuf.fromFd(fds[0] as number);
      using two = DmaBuf.fromFd(fds[2] as number);
      assert.deepEqual([one.inode, two.inode], [buffer.inode, buffer.inode]);
      closeSync(fds[1] as number);
      left.close();
      right.close();
    });
  });

  it('sends 253 descriptors and refuses 254', async () => {
    await leavesNothing(async () => {
      const [left, right] = pair();
      using buffer = heap.allocSync(PAGE);
      await left.send('many', new Array(MAX_MESSAGE_FDS).fill(buffer));
      const { fds } = (await right.receive()) as FdMessage;
      assert.equal(new Set(fds).size, 253);
      fds.forEach(closeSync);
      await assert.rejects(left.send('more', new Array(254).fill(buffer)), {
        code: 'ERR_OUT_OF_RANGE',
        message: /253/,
      });
      left.close();
      right.close();
    });
  });

  it('refuses what is no descriptor', async () => {
    const [left, right] = pair();
    for (const wrong of ['1', null, {}, 3]) {
      await assert.rejects(left.send(0, wrong as never), { code: 'ERR_INVALID_ARG_TYPE' });
    }
    await assert.rejects(left.send(0, [-1]), { code: 'ERR_OUT_OF_RANGE' });
    await assert.rejects(left.send(0, ['3' as never]), { code: 'ERR_INVALID_ARG_TYPE' });
    await assert.rejects(left.send(0, new Array(2) as never), { code: 'ERR_INVALID_ARG_TYPE' });
    await assert.rejects(left.send(0, [9999]), { code: 'EBADF', errno: -9, syscall: 'sendmsg' });
    const closed = heap.allocSync(PAGE);
    closed.close();
    await assert.rejects(left.send(0, [closed]), { code: 'ERR_DMABUF_CLOSED' });
    await assert.rejects(left.send('x'.repeat(MAX_MESSAGE_BYTES)), { code: 'ERR_OUT_OF_RANGE' });
    await left.send('fine');
    assert.equal((await right.receive())?.value, 'fine');
  });

  it('lets a value close what it is sent with', async () => {
    const [left, right] = pair();
    const buffer = heap.allocSync(PAGE);
    await assert.rejects(left.send({ toJSON: () => buffer.close() ?? 1 }, [buffer]), { code: 'ERR_DMABUF_CLOSED' });
    await assert.rejects(left.send({ toJSON: () => left.close() ?? 1 }), { code: 'ERR_DMABUF_CLOSED' });
    assert.equal(await right.receive(), undefined);
  });

  it('keeps messages and descriptors that have to wait, closed meanwhile or not', async () => {
    await leavesNothing(async () => {
      const [left, right] = pair();
      const pending: Promise<void>[] = [];
      for (let index = 0; index < 400; index++) {
        const buffer = heap.allocSync(PAGE);
        buffer.write((bytes) => bytes.fill(index));
        pending.push(left.send({ index, padding: 'p'.repeat(index * 50) }, index % 3 === 0 ? [] : [buffer]));
        buffer.close();
      }
      for (let index = 0; index < 400; index++) {
        const message = (await right.receive()) as FdMessage;
        assert.equal((message.value as { index: number }).index, index);
        assert.equal(message.fds.length, index % 3 === 0 ? 0 : 1);
        for (const fd of message.fds) {
          using buffer = DmaBuf.fromFd(fd);
          assert.equal(
            buffer.read((bytes) => bytes[PAGE - 1]),
            index % 256,
          );
        }
      }
      await Promise.all(pending);
      left.close();
      right.close();
    });
  });

  it('sends a message larger than the socket takes at once, its descriptors once', async () => {
    await leavesNothing(async () => {
      const [left, right] = pair();
      using buffer = heap.allocSync(PAGE);
      const value = 'v'.repeat(8 << 20);
      const sent = left.send(value, [buffer, buffer]);
      const message = (await right.receive()) as FdMessage;
      await sent;
      assert.equal((message.value as string).length, value.length);
      assert.equal(message.fds.length, 2);
      message.fds.forEach(closeSync);
      left.close();
      right.close();
    });
  });

  it('answers several who wait for a message in their order', async () => {
    const [left, right] = pair();
    const waiting = [right.receive(), right.receive(), right.receive()];
    for (const value of [1, 2, 3]) await left.send(value);
    assert.deepEqual(
      (await Promise.all(waiting)).map((message) => message?.value),
      [1, 2, 3],
    );
  });

  it('ends iterations when it is closed, and refuses what comes after', async () => {
    const [left, right] = pair();
    const seen: unknown[] = [];
    const iteration = (async () => {
      for await (const { value } of right) {
        seen.push(value);
        if (value === 'last') right.close();
      }
    })();
    await left.send('first');
    await left.send('last');
    await iteration;
    assert.deepEqual(seen, ['first', 'last']);
    right.close();
    right[Symbol.dispose]();
    await assert.rejects(right.receive(), { code: 'ERR_DMABUF_CLOSED' });
    await assert.rejects(right.send(1), { code: 'ERR_DMABUF_CLOSED' });
    await assert.rejects(left.send(1), { code: 'EPIPE', errno: -32, syscall: 'sendmsg' });
  });

  it('closes descriptors nobody received, and drops what nobody sent', async () => {
    await leavesNothing(async () => {
      const [left, right] = pair();
      using buffer = heap.allocSync(PAGE);
      const pending = [];
      for (let index = 0; index < 50; index++) pending.push(left.send('w'.repeat(20_000), [buffer]));
      const [first] = ((await right.receive()) as FdMessage).fds;
      closeSync(first as number);
      const settled = Promise.allSettled(pending);
      left.close();
      right.close();
      const results = await settled;
      assert.equal(results[0]?.status, 'fulfilled');
      assert.equal((results.at(-1) as PromiseRejectedResult).reason.code, 'ERR_DMABUF_CLOSED');
    });
  });

  it('answers who waits where its descriptor was closed behind its back', async () => {
    const others = openFds();
    const [left, right] = pair();
    const made = openFds().filter((line) => !others.includes(line));
    const waiting = left.receive();
    // The kernel gives the lowest number first.
    closeSync(Math.min(...made.map((line) => Number.parseInt(line, 10))));
    assert.throws(() => left.takeFd(), { code: 'ERR_DMABUF_CLOSED' });
    assert.equal(await waiting, undefined);
    assert(left.closed && !right.closed);
  });

  it('may be closed by a hook of what waiting for it makes', async () => {
    await leavesNothing(async () => {
      const [socket, other] = FdSocket.pair();
      const hook = createHook({
        init(_id, type) {
          if (type.startsWith('dmabuf')) socket.close();
        },
      }).enable();
      try {
        assert.equal(await socket.receive(), undefined);
        assert(socket.closed);
      } finally {
        hook.disable();
        other.close();
      }
    });
  });

  it('tells lost descriptors from none', async () => {
    await leavesNothing(async () => {
      const [left, right] = pair();
      using buffer = heap.allocSync(PAGE);
      await left.send('two', [buffer, buffer]);
      const taken: number[] = [];
      try {
        for (;;) taken.push(openSync('/dev/null', 'r'));
      } catch {
        closeSync(taken.pop() as number);
      }
      try {
        await assert.rejects(right.receive(), { code: 'ERR_DMABUF_FDS_LOST', message: /ulimit -n/ });
      } finally {
        taken.forEach(closeSync);
      }
      assert(right.closed);
      left.close();
    });
  });

  describe('between processes', () => {
    it('hands a buffer over and sees what the other wrote', async () => {
      await leavesNothing(async () => {
        using server = FdSocket.listen(path);
        const process = child('connect.mjs', [path]);
        using socket = (await server.accept()) as FdSocket;
        using buffer = heap.allocSync(3 * PAGE, { name: 'shared' });
        using mapping = buffer.map();
        const bytes = new Uint8Array(mapping.buffer).fill(0x11);
        await socket.send({ change: 1, length: buffer.length }, [buffer]);
        const answer = await socket.receive();
        assert.deepEqual(answer?.value, { name: 'shared', was: 0x11, inode: buffer.inode });
        assert.deepEqual([bytes[0], bytes[PAGE], bytes[2 * PAGE - 1], bytes[2 * PAGE]], [0x11, 0x22, 0x22, 0x11]);
        assert.equal(await socket.receive(), undefined);
        assert.equal((await once(process, 'exit'))[0], 0);
      });
    });

    it('speaks to a child through an inherited descriptor', async () => {
      const [left, right] = pair();
      const number = right.takeFd();
      assert(right.closed);
      const process = child('inherited.mjs', [], [number]);
      closeSync(number);
      using buffer = heap.allocSync(PAGE);
      await left.send('fill', [buffer]);
      assert.equal((await left.receive())?.value, 'filled');
      assert.equal(
        buffer.read((bytes) => bytes[100]),
        0x33,
      );
      left.close();
      assert.equal((await once(process, 'exit'))[0], 0);
    });

    it('refuses one message where too many descriptors are on their way, and goes on', async () => {
      const process = child('too-many.mjs', [], [], 64);
      assert.equal((await once(process, 'exit'))[0], 0);
    });

    it('notices that the peer was killed', async () => {
      await leavesNothing(async () => {
        using server = FdSocket.listen(path);
        const process = child('connect.mjs', [path]);
        using socket = (await server.accept()) as FdSocket;
        process.kill('SIGKILL');
        assert.equal(await socket.receive(), undefined);
        await assert.rejects(socket.send(1), { code: 'EPIPE' });
      });
    });

    it('lets a process end that waits for nothing', async () => {
      const [code] = await once(child('idle.mjs', []), 'exit');
      assert.equal(code, 0);
    });
  });

  describe('paths', () => {
    it('are removed when the server is closed', async () => {
      await leavesNothing(async () => {
        const server = FdSocket.listen(path);
        assert(existsSync(path));
        const waiting = server.accept();
        server.close();
        server.close();
        assert(!existsSync(path));
        assert.equal(await waiting, undefined);
        await assert.rejects(server.accept(), { code: 'ERR_DMABUF_CLOSED' });
      });
    });

    it('serve many', async () => {
      await leavesNothing(async () => {
        using server = FdSocket.listen(path);
        const clients = await Promise.all(Array.from({ length: 20 }, () => FdSocket.connect(path)));
        const received: unknown[] = [];
        void Promise.all(clients.map((client, index) => client.send(index)));
        for await (const socket of server) {
          received.push((await socket.receive())?.value);
          socket.close();
          if (received.length === clients.length) break;
        }
        assert.deepEqual(
          received.sort((a, b) => Number(a) - Number(b)),
          clients.map((_, index) => index),
        );
        for (const client of clients) client.close();
      });
    });

    it('say what is wrong with them', async () => {
      await leavesNothing(async () => {
        await assert.rejects(FdSocket.connect(path), { code: 'ENOENT', syscall: 'connect', path });
        const long = `/tmp/${'x'.repeat(103)}`;
        await assert.rejects(FdSocket.connect(long), { code: 'ERR_OUT_OF_RANGE', message: /107 bytes/ });
        assert.throws(() => FdSocket.listen(long), { code: 'ERR_OUT_OF_RANGE' });
        assert.throws(() => FdSocket.listen('/nowhere/at/all'), { code: 'ENOENT', syscall: 'listen' });
        assert.throws(() => FdSocket.listen(7 as never), { code: 'ERR_INVALID_ARG_TYPE' });
        await assert.rejects(FdSocket.connect(''), { code: 'ERR_INVALID_ARG_VALUE' });
        writeFileSync(path, '');
        assert.throws(() => FdSocket.listen(path), { code: 'EADDRINUSE', path, message: /remove it/ });
        await assert.rejects(FdSocket.connect(path), { code: 'ECONNREFUSED' });
        rmSync(path);
        const server = FdSocket.listen(path);
        assert.throws(() => FdSocket.listen(path), { code: 'EADDRINUSE' });
        server.close();
      });
    });
  });

  describe('fromFd', () => {
    it('refuses what is no unix stream socket, and leaves it alone', async () => {
      const fd = openSync('/dev/null', 'r');
      assert.throws(() => FdSocket.fromFd(fd), { code: 'ENOTSOCK', errno: -88 });
      fstatSync(fd);
      closeSync(fd);
      assert.throws(() => FdSocket.fromFd(9999), { code: 'EBADF' });
      assert.throws(() => FdSocket.fromFd('3' as never), { code: 'ERR_INVALID_ARG_TYPE' });
    });
  });

  describe('with a peer that breaks the format', () => {
    let server: Server;
    let peer: Socket;
    let victim: FdSocket;

    beforeEach(async () => {
      server = createServer((socket) => {
        peer = socket;
      }).listen(path);
      await once(server, 'listening');
      const connected = once(server, 'connection');
      victim = await FdSocket.connect(path);
      await connected;
      peer.on('error', () => {});
      sockets.push(victim, server);
    });

    afterEach(() => {
      peer.destroy();
    });

    const text = Buffer.from('{"a":1}');
    for (const [what, bytes] of Object.entries({
      'no JSON': Buffer.concat([header(3, 0), Buffer.from('{a}')]),
      'an empty text': header(0, 0),
      'a length of 4 GiB': header(0xffffffff, 0),
      'a length over the limit': header(MAX_MESSAGE_BYTES + 1, 0),
      'descriptors that did not come': Buffer.concat([header(text.length, 2), text]),
      '254 descriptors': header(text.length, 254),
      'half a header': header(1, 1).subarray(0, 5),
      'half a text': Buffer.concat([header(100, 0), text]),
      'JSON of great depth, cut short': Buffer.concat([header(100_000, 0), Buffer.alloc(100_000, '[')]),
    })) {
      it(`refuses ${what}`, async () => {
        peer.end(bytes);
        await assert.rejects(victim.receive(), { name: 'DmaBufError', code: 'ERR_DMABUF_PROTOCOL' });
        assert(victim.closed);
      });
    }

    it('puts a message together that comes byte by byte', async () => {
      const bytes = Buffer.concat([header(text.length, 0), text, header(text.length, 0), text]);
      const received = Promise.all([victim.receive(), victim.receive()]);
      for (const byte of bytes) {
        peer.write(Buffer.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.deepEqual(
        (await received).map((message) => message?.value),
        [{ a: 1 }, { a: 1 }],
      );
    });
  });
});
