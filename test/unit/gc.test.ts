// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { BufferPool, type FdMessage, FdSocket, openHeap } from 'dmabuf';
import { collect, collectUntil, leavesNothing, openFds, PAGE } from '../support.ts';

interface Warning extends Error {
  code?: string;
}

describe('what is left to the garbage collector', () => {
  let warnings: Warning[];
  const remember = (warning: Warning) => {
    if (warning.name === 'DmaBufWarning') warnings.push(warning);
  };

  beforeEach(async () => {
    await collect();
    warnings = [];
    process.on('warning', remember);
  });

  afterEach(() => {
    process.off('warning', remember);
  });

  it('is closed, and reported by name', async () => {
    const before = openFds();
    (() => {
      openHeap('memfd').allocSync(PAGE, { name: 'forgotten' }).map();
    })();
    await collectUntil(() => warnings.length > 0);
    assert.deepEqual(openFds(), before);
    assert.equal(warnings.length, 1);
    assert.equal(warnings[0]?.code, 'DMABUF_NOT_CLOSED');
    assert.match(warnings[0]?.message ?? '', new RegExp(`'forgotten' \\(${PAGE} bytes`));
  });

  it('is not reported when it was closed', async () => {
    await leavesNothing(() => {
      const heap = openHeap('memfd');
      for (let round = 0; round < 20; round++) heap.allocSync(PAGE).close();
    });
    await collect();
    assert.deepEqual(warnings, []);
  });

  it('does not close a descriptor somebody has taken', async () => {
    const fd = (() => openHeap('memfd').allocSync(PAGE).takeFd())();
    await collect();
    closeSync(fd);
  });

  it('ends a bracket that nobody closes, and reports it', async () => {
    using buffer = openHeap('memfd').allocSync(PAGE, { name: 'held open' });
    const weak = (() => new WeakRef(buffer.accessSync('write')))();
    await collectUntil(() => warnings.length > 0);
    assert.equal(weak.deref(), undefined);
    assert.match(warnings[0]?.message ?? '', /An access to DmaBuf 'held open' .* was left to the garbage collector/);
    (() => buffer.accessSync('read').close())();
    await collect();
    assert.equal(warnings.length, 1);
  });

  it('does not include a buffer whose bracket is open', async () => {
    const pending = (() =>
      openHeap('memfd')
        .allocSync(PAGE, { name: 'bracket' })
        .read(async (bytes) => {
          await collect();
          return bytes.length;
        }))();
    await collect();
    assert.deepEqual(warnings, []);
    assert.equal(await pending, PAGE);
  });

  it('includes sockets, used and unused, with what they hold', async () => {
    const before = openFds();
    await (async () => {
      const [left, right] = FdSocket.pair();
      using buffer = openHeap('memfd').allocSync(PAGE);
      for (let round = 0; round < 3; round++) await left.send(round, [buffer]);
      const message = await right.receive();
      message?.fds.forEach(closeSync);
      FdSocket.pair();
    })();
    await collectUntil(() => openFds().length === before.length);
    assert.deepEqual(openFds(), before);
  });

  it('includes descriptors of messages that nobody has received, whole or not', async () => {
    const before = openFds();
    await (async () => {
      using pool = BufferPool.createSync(openHeap('memfd'), PAGE, { count: 1 });
      const buffers = [openHeap('memfd').allocSync(PAGE)];
      const [ours, taken] = FdSocket.pair();
      const theirs = FdSocket.fromFd(taken.takeFd(), { format: 'raw' });
      {
        using lent = await pool.acquire();
        await lent.send(ours, 'lent');
      }
      const { fds } = (await theirs.receive()) as FdMessage;
      for (const fd of fds) closeSync(fd);
      await theirs.send(Buffer.from([1, 0, 0, 0, 1, 0, 0, 0, 0x37]), buffers);
      await theirs.send(Buffer.from([4, 0, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0]));
      await theirs.send(Buffer.from([1, 0]), buffers);
      (await pool.acquire()).release();
      buffers[0]?.close();
    })();
    await collectUntil(() => openFds().length === before.length);
    assert.deepEqual(openFds(), before);
  });

  it('sends lent buffers home that the receiver leaves to it, and reports them', async () => {
    await leavesNothing(async () => {
      using pool = BufferPool.createSync(openHeap('memfd'), PAGE, { count: 1, name: 'lent' });
      const [ours, theirs] = FdSocket.pair();
      {
        using frame = await pool.acquire();
        await frame.send(ours, 1);
      }
      await (async () => {
        for await (const { lent } of theirs.buffers()) {
          assert(lent);
          break;
        }
      })();
      await collectUntil(() => pool.available === 1);
      assert.equal(pool.available, 1);
      assert.match(warnings[0]?.message ?? '', /DmaBuf .* was left to the garbage collector/);
      ours.close();
      theirs.close();
    });
  });
});
