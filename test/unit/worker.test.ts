// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { DmaBuf, FdSocket, openHeap } from 'dmabuf';
import { leavesNothing, PAGE } from '../support.ts';

function start(mode: string, data: object = {}): Worker {
  const script = new URL('./children/worker.mjs', import.meta.url);
  return new Worker(script, { workerData: { mode, ...data }, execArgv: [] });
}

describe('worker threads', () => {
  it('take a buffer as a descriptor and share its memory', async () => {
    await leavesNothing(async () => {
      using buffer = openHeap('memfd').allocSync(PAGE);
      const worker = start('fill', { fd: buffer.dup().takeFd() });
      // A thread that ends at once hands over its last message and its end in one turn.
      const ended = once(worker, 'exit');
      const [answer] = await once(worker, 'message');
      assert.deepEqual(answer, { size: PAGE, inode: buffer.inode });
      assert.equal(
        buffer.read((bytes) => bytes[PAGE - 1]),
        0x44,
      );
      assert.deepEqual(await ended, [0]);
    });
  });

  it('have sockets of their own', async () => {
    await leavesNothing(async () => {
      const [left, right] = FdSocket.pair();
      const worker = start('echo', { fd: right.takeFd() });
      using buffer = openHeap('memfd').allocSync(PAGE);
      for (let round = 0; round < 20; round++) {
        await left.send({ round }, [buffer]);
        const answer = await left.receive();
        assert.deepEqual(answer?.value, { round });
        using back = DmaBuf.fromFd(answer?.fds[0] ?? -1);
        assert.equal(back.inode, buffer.inode);
      }
      left.close();
      assert.deepEqual(await once(worker, 'exit'), [0]);
    });
  });

  for (const mode of ['hoard', 'wait', 'busy', 'alloc', 'send']) {
    it(`leave nothing behind when terminated (${mode})`, async () => {
      await leavesNothing(async () => {
        const workers = Array.from({ length: 3 }, () => start(mode));
        await Promise.all(workers.map((worker) => once(worker, 'message')));
        await sleep(10);
        await Promise.all(workers.map((worker) => worker.terminate()));
      });
    });
  }

  it('may be stopped in the middle of a call that makes a promise', () => {
    const script = fileURLToPath(new URL('./children/stopped.mjs', import.meta.url));
    // glibc fills memory with this before it is used: nothing is zero by luck.
    const env = { ...process.env, MALLOC_PERTURB_: '165' };
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, [script, '10'], { env, encoding: 'utf8' });
    assert.deepEqual({ status, signal, stdout }, { status: 0, signal: null, stdout: '10 threads stopped\n' }, stderr);
  });
});
