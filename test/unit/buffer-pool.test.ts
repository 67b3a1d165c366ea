// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { BufferPool, type FdMessage, FdSocket, type Heap, openHeap, PoolBuffer, spawnWithSocket } from 'dmabuf';
import { collectUntil, leavesNothing, PAGE, SEND_BUFFER, withoutDescriptors } from '../support.ts';

const script = fileURLToPath(new URL('./children/parent.mjs', import.meta.url));

describe('a BufferPool', () => {
  let heap: Heap;
  before(() => {
    heap = openHeap('memfd');
  });
  after(() => heap.close());

  it('has equal buffers, as many as were asked for', async () => {
    await leavesNothing(async () => {
      using pool = await BufferPool.create(heap, PAGE + 1, { count: 3, name: 'frame' });
      assert.deepEqual([pool.count, pool.length, pool.available], [3, PAGE + 1, 3]);
      const all = [await pool.acquire(), await pool.acquire(), await pool.acquire()];
      assert.equal(new Set(all.map(({ buffer }) => buffer.inode)).size, 3);
      for (const { buffer } of all) assert.deepEqual([buffer.length, buffer.name], [PAGE + 1, 'frame']);
      assert.equal(pool.tryAcquire(), undefined);
      for (const one of all) one.release();
      assert.equal(pool.available, 3);
    });
  });

  it('gives to those who wait, in their order, and a buffer to one at a time', async () => {
    await leavesNothing(async () => {
      using pool = BufferPool.createSync(heap, PAGE, { count: 2 });
      const out = new Set<number>();
      const order: number[] = [];
      await Promise.all(
        Array.from({ length: 50 }, async (_, index) => {
          using one = await pool.acquire();
          order.push(index);
          const { inode } = one.buffer;
          assert(!out.has(inode));
          out.add(inode);
          assert(out.size <= 2);
          await sleep(index % 3);
          out.delete(inode);
        }),
      );
      assert.deepEqual(
        order,
        Array.from({ length: 50 }, (_, index) => index),
      );
      assert.equal(pool.available, 2);
    });
  });

  it('lets go of those who no longer wait', async () => {
    await leavesNothing(async () => {
      using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
      const held = await pool.acquire();
      const controller = new AbortController();
      const given = assert.rejects(pool.acquire({ signal: controller.signal }), { message: 'enough' });
      const next = pool.acquire();
      controller.abort(new Error('enough'));
      await given;
      held.release();
      held.release();
      (await next)[Symbol.dispose]();
      assert.equal(pool.available, 1);
      await assert.rejects(pool.acquire({ signal: controller.signal }), { message: 'enough' });
      assert.equal(pool.available, 1);
      assert.throws(() => held.buffer, { code: 'ERR_DMABUF_CLOSED', message: /released/ });
    });
  });

  it('refuses what it cannot be made of, and leaves nothing where memory or descriptors end', async () => {
    await leavesNothing(async () => {
      for (const [args, code] of [
        [[null, PAGE, { count: 1 }], 'ERR_INVALID_ARG_TYPE'],
        [[heap, PAGE, undefined], 'ERR_INVALID_ARG_TYPE'],
        [[heap, PAGE, {}], 'ERR_INVALID_ARG_TYPE'],
        [[heap, PAGE, { count: 0 }], 'ERR_OUT_OF_RANGE'],
        [[heap, PAGE, { count: 65537 }], 'ERR_OUT_OF_RANGE'],
        [[heap, 0, { count: 2 }], 'ERR_OUT_OF_RANGE'],
        [[heap, PAGE, { count: 2, color: 'red' }], 'ERR_INVALID_ARG_VALUE'],
      ] as const) {
        assert.throws(() => BufferPool.createSync(...(args as unknown as Parameters<typeof BufferPool.createSync>)), {
          code,
        });
        await assert.rejects(BufferPool.create(...(args as unknown as Parameters<typeof BufferPool.create>)), { code });
      }
      await withoutDescriptors(async () => {
        assert.throws(() => BufferPool.createSync(heap, PAGE, { count: 3 }), { code: 'EMFILE' });
        await assert.rejects(BufferPool.create(heap, PAGE, { count: 3 }), { code: 'EMFILE' });
      });
      assert.throws(() => new (PoolBuffer as never as new () => unknown)(), { name: 'TypeError' });
    });
  });

  it('is closed with what is away, and with those who wait', async () => {
    await leavesNothing(async () => {
      const pool = BufferPool.createSync(heap, PAGE, { count: 1 });
      const held = await pool.acquire();
      const waiting = assert.rejects(pool.acquire(), { code: 'ERR_DMABUF_CLOSED' });
      pool.close();
      pool[Symbol.dispose]();
      await waiting;
      assert(pool.closed && held.buffer.closed);
      held.release();
      assert.equal(pool.available, 0);
      await assert.rejects(pool.acquire(), { code: 'ERR_DMABUF_CLOSED' });
    });
  });

  it('has a buffer back that was left to the collector, and says so', async () => {
    using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
    const warned = once(process, 'warning');
    await (async () => void (await pool.acquire()))();
    await collectUntil(() => pool.available === 1);
    assert.equal(pool.available, 1);
    const [{ code, message }] = await warned;
    assert.equal(code, 'DMABUF_NOT_CLOSED');
    assert.match(message, /BufferPool.*release\(\)/);
  });

  describe('and a peer', () => {
    it('has a buffer back when the peer says so', async () => {
      await leavesNothing(async () => {
        using pool = BufferPool.createSync(heap, PAGE, { count: 2 });
        const { child, socket } = spawnWithSocket(process.execPath, [script], { stdio: 'inherit' });
        const ended = once(child, 'exit');
        for (let frame = 0; frame < 20; frame++) {
          // The third waits for the first.
          using one = await pool.acquire();
          one.buffer.write((bytes) => bytes.fill(frame));
          await one.send(socket, 'fill');
        }
        const last = [await pool.acquire(), await pool.acquire()];
        for (const { buffer } of last) {
          assert.equal(
            buffer.read((bytes) => bytes[0]),
            0x66,
          );
        }
        for (const one of last) one.release();
        // Its answers are still there, in their order.
        for (let frame = 0; frame < 20; frame++) {
          const { value } = (await socket.receive()) as FdMessage;
          assert.equal((value as { value: string }).value, 'fill');
        }
        socket.close();
        await ended;
      });
    });

    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      it(`has all buffers back when the peer is ended by ${signal}`, async () => {
        await leavesNothing(async () => {
          using pool = BufferPool.createSync(heap, PAGE, { count: 3 });
          const { child, socket } = spawnWithSocket(process.execPath, [script], { stdio: 'inherit' });
          const ended = once(child, 'exit');
          for (let frame = 0; frame < 3; frame++) {
            using one = await pool.acquire();
            await one.send(socket, 'keep');
          }
          await socket.receive();
          assert.equal(pool.available, 0);
          const waiting = pool.acquire();
          child.kill(signal);
          (await waiting).release();
          await ended;
          while (pool.available < 3) await sleep(1);
          socket.close();
        });
      });
    }

    it('has one back only when all have let go that it was sent to, and who sent it', async () => {
      await leavesNothing(async () => {
        using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
        const peers = [FdSocket.pair(), FdSocket.pair({ type: 'seqpacket', format: 'v8' })];
        const one = await pool.acquire();
        const loans: number[] = [];
        for (const [ours, theirs] of peers) {
          await one.send(ours, { some: 'value' });
          const message = await theirs.receive();
          assert.deepEqual(message?.value, { some: 'value' });
          message?.fds.forEach(closeSync);
          loans.push(message?.loan as number);
        }
        for (const [index, [, theirs]] of peers.entries()) {
          await theirs.release(loans[index] as number);
          await sleep(1);
          assert.equal(pool.available, 0);
        }
        one.release();
        while (pool.available < 1) await sleep(1);
        for (const socket of peers.flat()) socket.close();
      });
    });

    it('keeps a buffer that could not be sent', async () => {
      await leavesNothing(async () => {
        using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
        const [ours, theirs] = FdSocket.pair();
        const one = await pool.acquire();
        await assert.rejects(one.send({} as never, 1), { code: 'ERR_INVALID_ARG_TYPE' });
        await assert.rejects(one.send(ours, undefined), { code: 'ERR_INVALID_ARG_TYPE' });
        theirs.close();
        await assert.rejects(one.send(ours, 1), { code: 'EPIPE' });
        ours.close();
        await assert.rejects(one.send(ours, 1), { code: 'ERR_DMABUF_CLOSED' });
        const raw = FdSocket.pair({ format: 'raw' });
        await assert.rejects(one.send(raw[0], 1), { code: 'ERR_DMABUF_UNSUPPORTED' });
        for (const socket of raw) socket.close();
        assert.equal(pool.available, 0);
        one.release();
        assert.equal(pool.available, 1);
        await assert.rejects(one.send(ours, 1), { code: 'ERR_DMABUF_CLOSED' });
      });
    });

    it('has buffers back that wait to be sent, when the socket is closed', async () => {
      await leavesNothing(async () => {
        using pool = BufferPool.createSync(heap, PAGE, { count: 5 });
        const [ours, theirs] = FdSocket.pair();
        const pending: Promise<void>[] = [];
        for (let frame = 0; frame < 5; frame++) {
          using one = await pool.acquire();
          pending.push(one.send(ours, 'w'.repeat(SEND_BUFFER / 2)));
        }
        const settled = Promise.allSettled(pending);
        assert.equal(pool.available, 0);
        ours.close();
        assert.equal(pool.available, 5);
        assert.equal((await settled).at(-1)?.status, 'rejected');
        theirs.close();
      });
    });

    it('hears of the end of loans, and keeps messages until somebody asks', async () => {
      await leavesNothing(async () => {
        using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
        const [ours, theirs] = FdSocket.pair();
        for (let frame = 0; frame < 3; frame++) {
          {
            using one = await pool.acquire();
            await one.send(ours, frame);
          }
          const message = await theirs.receive();
          message?.fds.forEach(closeSync);
          await theirs.release(message?.loan as number);
          await theirs.send({ frame });
        }
        (await pool.acquire()).release();
        for (let frame = 0; frame < 3; frame++) assert.deepEqual(await ours.receive(), { value: { frame }, fds: [] });
        ours.close();
        theirs.close();
      });
    });

    it('keeps no more of them than it has to, and loses none', async () => {
      await leavesNothing(async () => {
        using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
        const [ours, theirs] = FdSocket.pair();
        {
          using one = await pool.acquire();
          await one.send(ours, 'lent');
        }
        const loan = await theirs.receive();
        loan?.fds.forEach(closeSync);
        using buffer = heap.allocSync(PAGE);
        let sent = 0;
        const count = 2048 + Math.ceil(SEND_BUFFER / 1000);
        const all = Array.from({ length: count }, (_, index) =>
          theirs.send([index, 'p'.repeat(1000)], index % 100 ? [] : [buffer]).then(() => sent++),
        );
        const released = theirs.release(loan?.loan as number);
        // Some are with us, some in the socket, and the rest with the peer.
        while (sent < 1024) await sleep(1);
        await sleep(50);
        assert(sent < count, `${sent} of ${count}`);
        assert.equal(pool.available, 0);
        for (let index = 0; index < count; index++) {
          const message = (await ours.receive()) as FdMessage;
          assert.equal((message.value as [number])[0], index);
          message.fds.forEach(closeSync);
        }
        await Promise.all([...all, released]);
        (await pool.acquire()).release();
        ours.close();
        theirs.close();
      });
    });

    for (const type of ['stream', 'seqpacket'] as const) {
      for (const [what, unread] of Object.entries({ 'has read all': false, 'has not': true })) {
        it(`has its buffer back when the peer is gone and nobody asks for what it sent (${type}, it ${what})`, async () => {
          await leavesNothing(async () => {
            using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
            const [ours, theirs] = FdSocket.pair({ type });
            {
              using one = await pool.acquire();
              await one.send(ours, 'lent');
            }
            const { fds, loan } = (await theirs.receive()) as FdMessage;
            fds.forEach(closeSync);
            if (unread) await ours.send('unread');
            // More than are kept.
            for (let index = 0; index < 1100; index++) await theirs.send(index);
            await theirs.release(loan as number);
            await sleep(10);
            assert.equal(pool.available, 0);
            theirs.close();
            (await pool.acquire()).release();
            for (let index = 0; index < 1100; index++) assert.equal((await ours.receive())?.value, index);
            // The end of the loan is in between.
            assert.equal(await ours.receive(), undefined);
            ours.close();
          });
        });
      }
    }

    it('has a buffer back at once from a peer that sends no more', async () => {
      await leavesNothing(async () => {
        using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
        const name = `\0dmabuf.test.${process.pid}`;
        using server = FdSocket.listen(name);
        const code = `import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect('\\0' + sys.argv[1])
s.shutdown(socket.SHUT_WR)
sys.stdin.read()`;
        const child = spawn('/usr/bin/python3', ['-c', code, name.slice(1)], { stdio: ['pipe', 'inherit', 'inherit'] });
        const ended = once(child, 'exit');
        using ours = (await server.accept()) as FdSocket;
        assert.equal(await ours.receive(), undefined);
        {
          using one = await pool.acquire();
          await one.send(ours, 'lent');
        }
        assert.equal(pool.available, 1);
        child.stdin.end();
        assert.deepEqual(await ended, [0, null]);
      });
    });

    it('closes what was kept and nobody asked for', async () => {
      await leavesNothing(async () => {
        using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
        const [ours, theirs] = FdSocket.pair();
        {
          using one = await pool.acquire();
          await one.send(ours, 'lent');
        }
        using buffer = heap.allocSync(PAGE);
        for (let index = 0; index < 5; index++) await theirs.send(index, [buffer, buffer]);
        // The last of them is read when this has arrived.
        await theirs.release(1);
        while (pool.available === 0) await sleep(1);
        ours.close();
        theirs.close();
      });
    });

    it('is told of a peer that breaks the format when it next asks, and has its buffers back', async () => {
      await leavesNothing(async () => {
        using pool = BufferPool.createSync(heap, PAGE, { count: 1 });
        const [ours, taken] = FdSocket.pair();
        const theirs = FdSocket.fromFd(taken.takeFd(), { format: 'raw' });
        {
          using one = await pool.acquire();
          await one.send(ours, 'lent');
        }
        using buffer = heap.allocSync(PAGE);
        const good = Buffer.from([1, 0, 0, 0, 1, 0, 0, 0, 0x37]);
        for (let index = 0; index < 3; index++) await theirs.send(good, [buffer]);
        await theirs.send(Buffer.alloc(8, 0xff));
        (await pool.acquire()).release();
        assert(ours.closed);
        // What came before that is still good.
        const before: unknown[] = [];
        const iteration = (async () => {
          for await (const { value, fds } of ours) {
            fds.forEach(closeSync);
            before.push(value);
          }
        })();
        await assert.rejects(iteration, { code: 'ERR_DMABUF_PROTOCOL' });
        assert.deepEqual(before, [7, 7, 7]);
        await assert.rejects(ours.receive(), { code: 'ERR_DMABUF_CLOSED' });
        theirs.close();
      });
    });
  });
});
