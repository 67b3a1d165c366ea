// SPDX-License-Identifier: MIT
/** One memory in several processes and threads. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { DmaBuf, Exporter, FdSocket, openHeap } from 'dmabuf';
import {
  allCounters,
  childScript,
  describeModules,
  eventually,
  fdinfo,
  idleCounters,
  leavesNoPage,
  PAGE,
} from './support.ts';

const heapsToTry = [
  ['ion', 'ion_system_heap'],
  ['ion', 'ion_dma_heap'],
  ['cma-mem', 'cma_mem'],
] as const;

function make(kind: string, name: string): DmaBuf {
  using heap = openHeap(kind, { heap: name });
  return heap.allocSync(3 * PAGE, { name: `to share: ${name}` });
}

/** A second Node process that does to buffers what it is told over a unix socket (children/partner.mjs). */
class Partner {
  private constructor(
    readonly child: ChildProcess,
    readonly socket: FdSocket,
  ) {}

  static async start(): Promise<Partner> {
    const directory = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    const server = FdSocket.listen(join(directory, 'socket'));
    const child = spawn(process.execPath, [childScript('partner.mjs'), server.path], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const socket = await server.accept();
    assert(socket);
    server.close();
    rmSync(directory, { recursive: true });
    return new Partner(child, socket);
  }

  async ask(value: object, buffers: DmaBuf[] = []): Promise<unknown> {
    await this.socket.send(value, buffers);
    return (await this.socket.receive())?.value;
  }

  async end(): Promise<void> {
    this.socket.close();
    if (this.child.exitCode === null) await once(this.child, 'exit');
    assert.equal(this.child.exitCode, 0);
  }
}

describeModules('two Node processes', () => {
  let partner: Partner;

  before(async () => {
    partner = await Partner.start();
  });

  after(async () => {
    await partner.end();
    await eventually(() => assert.deepEqual(allCounters(), idleCounters));
  });

  for (const [kind, name] of heapsToTry) {
    it(`see each other's writes in a buffer of ${name}`, async () => {
      await leavesNoPage(async () => {
        using buffer = make(kind, name);
        using mapping = buffer.map();
        const mine = new Uint8Array(mapping.buffer);
        buffer.write((bytes) => bytes.fill(0x11));
        const keeps = { size: 3 * PAGE, inode: buffer.inode, name: `to share: ${name}` };
        assert.deepEqual(await partner.ask({ keep: 'it' }, [buffer]), keeps);
        assert.deepEqual(await partner.ask({ sum: [0, 3 * PAGE] }), 3 * PAGE * 0x11);

        await partner.ask({ fill: [PAGE, 2 * PAGE, 0x22] });
        assert(mine.every((byte, at) => byte === (at >= PAGE && at < 2 * PAGE ? 0x22 : 0x11)));

        mine[3 * PAGE - 1] = 0x33;
        assert.deepEqual(await partner.ask({ sum: [3 * PAGE - 2, 3 * PAGE] }), 0x11 + 0x33);
        await partner.ask({ drop: 'it' });
      });
    });

    it(`keep a buffer of ${name} as long as one of them has it`, async () => {
      await leavesNoPage(async () => {
        const buffer = make(kind, name);
        buffer.write((bytes) => bytes.fill(0x44));
        const { inode } = buffer;
        await partner.ask({ keep: 'it' }, [buffer]);
        buffer.close();
        assert.notDeepEqual(allCounters(), idleCounters);
        assert.deepEqual(await partner.ask({ sum: [0, 3 * PAGE] }), 3 * PAGE * 0x44);
        await partner.socket.send({ giveBack: 'it' });
        const answer = await partner.socket.receive();
        using back = DmaBuf.fromFd(answer?.fds[0] ?? -1);
        assert.equal(back.inode, inode);
        assert.equal(fdinfo(back.fd, 'flags'), '02000002');
        await partner.ask({ drop: 'it' });
        assert.equal(
          back.read((bytes) => bytes[PAGE]),
          0x44,
        );
      });
    });
  }

  it('send many buffers in one message', async () => {
    await leavesNoPage(async () => {
      using heap = openHeap('ion');
      const buffers = Array.from({ length: 100 }, (_, index) => {
        const buffer = heap.allocSync(PAGE);
        buffer.write((bytes) => bytes.fill(index));
        return buffer;
      });
      assert.deepEqual(
        await partner.ask({ firstBytes: 'please' }, buffers),
        buffers.map((_, index) => index),
      );
      for (const buffer of buffers) buffer.close();
    });
  });

  it('share the text of the exporter, which a reader cannot change', async () => {
    await leavesNoPage(async () => {
      using reader = Exporter.open({ readonly: true });
      using buffer = reader.buffer();
      await partner.ask({ keep: 'it' }, [buffer]);
      assert.equal(await partner.ask({ text: 11 }), 'hello world');
      assert.deepEqual(await partner.ask({ fill: [0, 5, 0] }), { error: 'EACCES' });
      await partner.ask({ drop: 'it' });
    });
  });
});

describeModules('worker threads', () => {
  for (const [kind, name] of heapsToTry) {
    it(`share a buffer of ${name}`, async () => {
      await leavesNoPage(async () => {
        using buffer = make(kind, name);
        buffer.write((bytes) => bytes.fill(0x55));
        const workerData = { fd: buffer.dup().takeFd() };
        const worker = new Worker(childScript('thread.mjs'), { workerData, execArgv: [] });
        const [seen] = await once(worker, 'message');
        assert.deepEqual(seen, { inode: buffer.inode, first: 0x55 });
        assert.deepEqual(await once(worker, 'exit'), [0]);
        assert.equal(
          buffer.read((bytes) => bytes[3 * PAGE - 1]),
          0x66,
        );
      });
    });
  }

  it('have heaps of their own, and leave nothing when they are stopped', async () => {
    await leavesNoPage(async () => {
      const worker = new Worker(childScript('thread.mjs'), { workerData: {}, execArgv: [] });
      await once(worker, 'message');
      assert.notDeepEqual(allCounters(), idleCounters);
      await worker.terminate();
    });
  });
});
