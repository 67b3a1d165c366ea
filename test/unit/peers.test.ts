// SPDX-License-Identifier: MIT
/** Peers of an FdSocket in other languages: those of examples/peers, and Python's send_fds alone. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DmaBuf, type FdMessage, FdSocket, openHeap } from 'dmabuf';
import { leavesNothing, PAGE } from '../support.ts';

const example = (name: string) => fileURLToPath(new URL(`../../examples/peers/${name}`, import.meta.url));

/** Debian's. */
const PYTHON = '/usr/bin/python3';

describe('a peer of an FdSocket', function () {
  this.timeout(20_000);
  let folder: string;
  let path: string;
  const peers: Record<string, string[]> = {};

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    const program = join(folder, 'peer');
    const flags = ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-o', program];
    execFileSync('gcc', [...flags, example('peer.c')], { stdio: 'inherit' });
    Object.assign(peers, { C: [program], Python: [PYTHON, example('peer.py')] });
  });
  after(() => rmSync(folder, { recursive: true }));
  beforeEach(() => {
    path = join(folder, `socket-${Math.random().toString(36).slice(2)}`);
  });

  function start(name: string, ...args: string[]): ChildProcess {
    const [program, ...first] = peers[name] as [string];
    return spawn(program, [...first, path, ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
  }

  async function accepted(name: string): Promise<[FdSocket, ChildProcess]> {
    using server = FdSocket.listen(path);
    const child = start(name);
    return [(await server.accept()) as FdSocket, child];
  }

  async function connected(name: string): Promise<[FdSocket, ChildProcess]> {
    const child = start(name, 'listen');
    for (;;) {
      try {
        return [await FdSocket.connect(path), child];
      } catch (error) {
        assert(child.exitCode === null && /ENOENT|ECONNREFUSED/.test((error as NodeJS.ErrnoException).code ?? ''));
        await sleep(5);
      }
    }
  }

  async function checkPictures(socket: FdSocket, name: string): Promise<void> {
    const heap = openHeap('memfd');
    for (const count of [1, 0, 3, 253]) {
      const pictures = Array.from({ length: count }, (_, index) => {
        const picture = heap.allocSync(PAGE * (1 + (index % 2)));
        picture.write((bytes) => bytes.fill(index));
        return picture;
      });
      const value = { count, text: 'ü'.repeat(count) };
      await socket.send(value, pictures);
      const answer = (await socket.receive()) as FdMessage;
      assert.deepEqual(answer.value, { peer: name, value });
      assert.equal(answer.fds.length, count);
      answer.fds.forEach((fd, index) => {
        using negative = DmaBuf.fromFd(fd);
        assert.equal(negative.name, 'negative');
        assert.equal(negative.size, pictures[index]?.size);
        negative.read((bytes) => assert.deepEqual(Buffer.from(bytes), Buffer.alloc(bytes.length, 255 - index)));
      });
      for (const picture of pictures) picture.close();
    }
  }

  for (const name of ['C', 'Python']) {
    for (const [how, meet] of Object.entries({ 'which connects': accepted, 'which listens': connected })) {
      it(`in ${name}, ${how}, sends and takes values and buffers`, async () => {
        await leavesNothing(async () => {
          const [socket, child] = await meet(name);
          const ended = once(child, 'exit');
          assert.equal(socket.peer.pid, child.pid);
          await checkPictures(socket, name);
          // In pieces, what does not fit into a socket at once.
          const long = 'x'.repeat(1_000_000);
          const sent = socket.send(long);
          assert.deepEqual((await socket.receive())?.value, { peer: name, value: long });
          await sent;
          socket.close();
          assert.deepEqual(await ended, [0, null]);
          assert(!existsSync(path));
        });
      });
    }

    it(`in ${name} that is killed in the middle is noticed, and leaves nothing`, async () => {
      await leavesNothing(async () => {
        const [socket, child] = await accepted(name);
        using buffer = openHeap('memfd').allocSync(64 * PAGE);
        const all = Array.from({ length: 300 }, (_, index) => socket.send({ index }, [buffer]));
        let seen = 0;
        try {
          for await (const { fds } of socket) {
            fds.forEach(closeSync);
            if (seen++ === 3) child.kill('SIGKILL');
          }
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'ERR_DMABUF_PROTOCOL');
        }
        for (const { status, reason } of (await Promise.allSettled(all)) as PromiseRejectedResult[]) {
          if (status === 'rejected') assert.match(reason.code, /EPIPE|ERR_DMABUF_PROTOCOL/);
        }
        assert(seen > 3);
        socket.close();
      });
    });
  }

  for (const [type, constant] of [
    ['stream', 'SOCK_STREAM'],
    ['seqpacket', 'SOCK_SEQPACKET'],
  ] as const) {
    it(`without our format, by Python's send_fds and recv_fds, has a raw socket (${type})`, async () => {
      const code = `import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.${constant})
s.connect(b'\\0' + sys.argv[1].encode())
data, fds, flags, _ = socket.recv_fds(s, 100, 10)
assert data == b'two' and len(fds) == 2 and os.path.sameopenfile(*fds), (data, fds)
socket.send_fds(s, [b'one', b' back'], fds[:1])
assert s.recv(1) == b''`;
      await leavesNothing(async () => {
        const name = `dmabuf.python.${process.pid}`;
        using server = FdSocket.listen(`\0${name}`, { type, format: 'raw' });
        const child = spawn(PYTHON, ['-c', code, name], { stdio: ['ignore', 'inherit', 'inherit'] });
        const ended = once(child, 'exit');
        using socket = (await server.accept()) as FdSocket;
        using buffer = openHeap('memfd').allocSync(PAGE);
        await socket.send(Buffer.from('two'), [buffer, buffer]);
        const { value, fds } = (await socket.receive()) as FdMessage;
        assert.deepEqual(value, Buffer.from('one back'));
        using back = DmaBuf.fromFd(fds[0] as number);
        assert(back.isSameBuffer(buffer));
        assert.equal(fds.length, 1);
        socket.close();
        assert.deepEqual(await ended, [0, null]);
      });
    });
  }
});
