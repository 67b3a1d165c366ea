// SPDX-License-Identifier: MIT
/** Sockets to child processes and threads. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type FdMessage, type FdSocket, openHeap, parentSocket, spawnWithSocket, workerWithSocket } from 'dmabuf';
import { leavesNothing, openFds, PAGE } from '../support.ts';

const url = new URL('./children/parent.mjs', import.meta.url);
const script = fileURLToPath(url);

interface Started {
  socket: FdSocket;
  /** settled when it has ended */
  ended: Promise<unknown>;
  end(): unknown;
}

type Start = (options?: {
  type?: 'seqpacket';
  format?: 'v8';
  ignores?: true;
  startsFirst?: true;
  startsPlain?: true;
  twice?: true;
}) => Started;

const inChild: Start = ({ type, ...options } = {}) => {
  const { child, socket } = spawnWithSocket(
    process.execPath,
    [script, JSON.stringify(options)],
    { stdio: 'inherit' },
    { ...(type && { type }), ...(options.format && { format: options.format }) },
  );
  return { socket, ended: once(child, 'exit'), end: () => child.kill('SIGKILL') };
};

const inThread: Start = ({ type, ...workerData } = {}) => {
  const { worker, socket } = workerWithSocket(
    url,
    { workerData, execArgv: [] },
    { ...(type && { type }), ...(workerData.format && { format: workerData.format }) },
  );
  return { socket, ended: once(worker, 'exit'), end: () => worker.terminate() };
};

for (const [what, start, called] of [
  ['a child process', inChild, 'spawnWithSocket'],
  ['a thread', inThread, 'workerWithSocket'],
] as const) {
  describe(`${what} with a socket`, () => {
    it('gets values and buffers, as DmaBufs', async () => {
      await leavesNothing(async () => {
        const { socket, ended } = start();
        using heap = openHeap('memfd');
        using one = heap.allocSync(PAGE);
        using two = heap.allocSync(2 * PAGE);
        await socket.send('fill', [one, two]);
        const { value, fds } = (await socket.receive()) as FdMessage;
        const { again, ...answer } = value as Record<string, object>;
        assert.deepEqual({ ...answer, fds }, { value: 'fill', sizes: [PAGE, 2 * PAGE], type: 'stream', fds: [] });
        assert.deepEqual(again, {
          code: 'ENOTCONN',
          message: `ENOTCONN: socket is not connected, getsockopt. This ${what.split(' ').at(-1)} was not started by ${called}(), or has its socket already.`,
        });
        for (const buffer of [one, two]) {
          assert.equal(
            buffer.read((bytes) => bytes.at(-1)),
            0x66,
          );
        }
        socket.close();
        await ended;
      });
    });

    it('speaks what both sides ask for', async () => {
      await leavesNothing(async () => {
        const { socket, ended } = start({ type: 'seqpacket', format: 'v8' });
        await socket.send(new Map([[1n, null]]));
        const { value } = (await socket.receive()) as FdMessage;
        assert.deepEqual((value as { value: unknown }).value, new Map([[1n, null]]));
        assert.equal((value as { type: unknown }).type, 'seqpacket');
        socket.close();
        await ended;
      });
    });

    it('is noticed when it ends, whether it has looked at its socket or not', async () => {
      await leavesNothing(async () => {
        for (const options of [{}, { ignores: true as const }]) {
          const { socket, ended, end } = start(options);
          using buffer = openHeap('memfd').allocSync(PAGE);
          await socket.send('keep', [buffer]);
          if (!options.ignores) await socket.receive();
          void end();
          await ended;
          assert.equal(await socket.receive(), undefined);
          socket.close();
        }
      });
    });

    it('has it when a thread that it has started looks for one before', async () => {
      await leavesNothing(async () => {
        const { socket, ended } = start({ startsPlain: true });
        await socket.send('mine');
        const { value: answer } = (await socket.receive()) as FdMessage;
        const { value, plain } = answer as { value: unknown; plain: unknown };
        assert.deepEqual({ value, plain }, { value: 'mine', plain: 'ENOTCONN' });
        socket.close();
        await ended;
      });
    });

    it('has it whichever copy of the library it asks', async () => {
      await leavesNothing(async () => {
        const { socket, ended } = start({ twice: true });
        await socket.send('mine');
        const { value: answer } = (await socket.receive()) as FdMessage;
        const { value, again } = answer as { value: unknown; again: { code: string } };
        assert.deepEqual([value, again.code], ['mine', 'ENOTCONN']);
        socket.close();
        await ended;
      });
    });

    it('has it when it starts a thread with a socket before', async () => {
      await leavesNothing(async () => {
        const { socket, ended } = start({ startsFirst: true });
        await socket.send('mine');
        const { value } = (await socket.receive()) as FdMessage;
        assert.equal((value as { value: unknown }).value, 'mine');
        socket.close();
        await ended;
      });
    });
  });
}

describe('parentSocket', () => {
  it('is none where this process was started otherwise', () => {
    assert.throws(() => parentSocket(), { code: 'ENOTCONN', message: /not started by spawnWithSocket/ });
  });
});

describe('spawnWithSocket', () => {
  it('leaves nothing where it cannot start the process', async () => {
    await leavesNothing(async () => {
      assert.throws(() => spawnWithSocket('true', [], { uid: 'root' as never }), { code: 'ERR_INVALID_ARG_TYPE' });
      assert.throws(() => spawnWithSocket('true', [], null as never), { code: 'ERR_INVALID_ARG_TYPE' });
      const before = openFds();
      assert.throws(() => spawnWithSocket('true', [], {}, { type: 'dgram' as never }), {
        code: 'ERR_INVALID_ARG_VALUE',
      });
      assert.deepEqual(openFds(), before);
      const { child, socket } = spawnWithSocket('/nowhere/at/all', [], { stdio: 'ignore' });
      const [error] = await once(child, 'error');
      assert.equal(error.code, 'ENOENT');
      assert.equal(await socket.receive(), undefined);
      socket.close();
    });
  });

  it('gives the socket beside other descriptors, blocking, and says where', async () => {
    await leavesNothing(async () => {
      const code = `import os, socket
number = int(os.environ["DMABUF_SOCKET"].split(":")[0])
assert number == 4 and os.environ["MINE"] == "1"
s = socket.socket(fileno=number)
assert os.get_blocking(number)
s.send(s.recv(100))`;
      const { child, socket } = spawnWithSocket(
        '/usr/bin/python3',
        ['-c', code],
        { stdio: ['ignore', 'inherit', 'inherit', 'pipe'], env: { MINE: '1' } },
        { format: 'raw' },
      );
      const ended = once(child, 'exit');
      await socket.send(Buffer.from('there and back'));
      assert.deepEqual((await socket.receive())?.value, Buffer.from('there and back'));
      assert.deepEqual(await ended, [0, null]);
      socket.close();
    });
  });

  it("does not pass for the socket of its children's children", () => {
    const env = { ...process.env, DMABUF_SOCKET: '1:2' };
    const { stderr } = spawnSync(process.execPath, [script], { env, encoding: 'utf8', timeout: 50_000 });
    assert.match(stderr, /ENOTCONN/);
  });
});

describe('workerWithSocket', () => {
  it('leaves nothing where it cannot start the thread', async () => {
    await leavesNothing(() => {
      assert.throws(() => workerWithSocket('relative.js'), { code: 'ERR_WORKER_PATH' });
      assert.throws(() => workerWithSocket(url, {}, { maxFds: -1 }), { code: 'ERR_OUT_OF_RANGE' });
    });
  });

  it('leaves no descriptor of a thread that is ended while they come', async function () {
    this.timeout(60_000);
    this.slow(10_000);
    using heap = openHeap('memfd');
    using one = heap.allocSync(PAGE);
    using two = heap.allocSync(PAGE);
    for (let round = 0; round < 10; round++) {
      await leavesNothing(async () => {
        const { socket, end } = inThread();
        await socket.send('ready?');
        await socket.receive();
        const answers = (async () => {
          for await (const _ of socket);
        })();
        const flood = (async () => {
          for (;;) {
            await socket.send('fill', [one, two]);
            await nextTurn();
          }
        })();
        const stopped = assert.rejects(flood, { code: /^(EPIPE|ERR_DMABUF_CLOSED)$/ });
        await sleep(10 + round);
        await end();
        socket.close();
        await Promise.all([answers, stopped]);
      });
    }
  });

  it('starts several, which get a socket each', async () => {
    await leavesNothing(async () => {
      const all = Array.from({ length: 4 }, () => inThread());
      await Promise.all(all.map(({ socket }, index) => socket.send(index)));
      const answers = await Promise.all(all.map(({ socket }) => socket.receive()));
      assert.deepEqual(
        answers.map((answer) => (answer as { value: { value: number } }).value.value),
        [0, 1, 2, 3],
      );
      for (const { socket } of all) socket.close();
      await Promise.all(all.map(({ ended }) => ended));
    });
  });
});
