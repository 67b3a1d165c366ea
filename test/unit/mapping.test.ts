// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomFill } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, read, readFileSync, rmSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { runInNewContext } from 'node:vm';
import { type Heap, openHeap } from 'dmabuf';
import {
  addressesOf,
  addressSpace,
  collect,
  collectUntil,
  inUse,
  leavesNothing,
  mappedBuffers,
  PAGE,
} from '../support.ts';

const MIB = 1 << 20;

/** `ArrayBuffer.prototype.transfer` of Node 22 and later. */
const transfer = (ArrayBuffer.prototype as { transfer?: (this: ArrayBuffer, length?: number) => ArrayBuffer }).transfer;

describe('Mapping', () => {
  let heap: Heap;
  before(() => {
    heap = openHeap('memfd');
  });

  it('gives the memory back at once when it is closed', () => {
    using buffer = heap.allocSync(PAGE);
    const before = mappedBuffers().length;
    const mapping = buffer.map();
    assert.equal(mappedBuffers().length, before + 1);
    mapping.close();
    assert.equal(mappedBuffers().length, before);
  });

  it('is of no range with a name that means nothing', () => {
    using buffer = heap.allocSync(PAGE);
    const misspelt = { len: 1 } as never;
    const bare = Object.assign(Object.create(null), { len: 1 });
    const foreign = runInNewContext('({ len: 1 })');
    for (const call of [misspelt, bare, foreign].flatMap((range) => [
      () => buffer.map(range),
      () => buffer.copy(range),
    ])) {
      assert.throws(call, {
        code: 'ERR_INVALID_ARG_VALUE',
        message: /"range" has no 'len': there are offset and length/,
      });
    }
    // More than a range, on purpose.
    using mapping = buffer.map({ length: 100 });
    for (const range of [mapping, { offset: 0, length: 100, stride: 10 }]) {
      assert.equal(buffer.copy(range).byteLength, 100);
    }
  });

  it('gives up its addresses when the ArrayBuffer is collected', async () => {
    const ranges: [number, number][] = [];
    (() => {
      using buffer = heap.allocSync(64 * MIB, { name: 'large' });
      for (let round = 0; round < 8; round++) {
        using _ = buffer.map();
        ranges.push(...addressesOf('large'));
      }
    })();
    assert.equal(ranges.length, 8);
    await collectUntil(() => inUse(ranges) < 64 * MIB);
    assert(inUse(ranges) < 64 * MIB, `${inUse(ranges) / MIB} MiB of 512 are in use`);
  });

  it('gives up its addresses however small it is', async () => {
    const ranges: [number, number][] = [];
    (() => {
      using buffer = heap.allocSync(PAGE, { name: 'small' });
      const mappings = Array.from({ length: 4000 }, () => buffer.map());
      ranges.push(...addressesOf('small'));
      for (const mapping of mappings) mapping.close();
    })();
    assert.equal(ranges.length, 4000);
    await collectUntil(() => inUse(ranges) < 2000 * PAGE);
    assert(inUse(ranges) < 2000 * PAGE, `${inUse(ranges) / PAGE} pages of 4000 are in use`);
  });

  it('is unmapped when nobody closes it and its ArrayBuffer is collected', async () => {
    await leavesNothing(() => {
      using buffer = heap.allocSync(PAGE);
      for (let round = 0; round < 10; round++) buffer.map();
    });
  });

  it('lives as long as its ArrayBuffer, without the objects that made it', async () => {
    const bytes = (() => {
      using buffer = heap.allocSync(PAGE);
      buffer.write((contents) => contents.fill(6));
      return new Uint8Array(buffer.map().buffer);
    })();
    await collect();
    assert(bytes.every((byte) => byte === 6));
  });

  it('can be mapped and closed without end in one turn of the loop', () => {
    using buffer = heap.allocSync(4 * MIB);
    const before = addressSpace();
    let most = 0;
    for (let round = 0; round < 3000; round++) {
      buffer.map().close();
      if (round % 100 === 0) most = Math.max(most, addressSpace() - before);
    }
    assert(most < 8 * MIB, `${most} of 12 Mi KiB of address space were in use`);
  });

  it('is refused before there are more than the process survives, and can be made again when others are closed', () => {
    const script = fileURLToPath(new URL('./children/many-mappings.mjs', import.meta.url));
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', script], {
      encoding: 'utf8',
    });
    assert.deepEqual({ status, signal }, { status: 0, signal: null }, stderr);
    const limit = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'));
    const { rounds, message } = JSON.parse(stdout);
    assert.match(message, new RegExp(`^ENOMEM.*vm\\.max_map_count \\(${limit}\\)`));
    assert.equal(rounds.length, 3);
    for (const { made, left } of rounds) {
      assert(made > limit / 2 && made <= (limit * 3) / 4, `${made} of ${limit}`);
      assert.equal(left, 0);
    }
  }).timeout(60_000);

  describe('with work under way when it is closed', () => {
    async function pipe(): Promise<{ reader: number; writer: number; [Symbol.dispose](): void }> {
      const folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
      const path = join(folder, 'fifo');
      assert.equal(spawnSync('mkfifo', [path]).status, 0);
      const both = openSync(path, 'r+');
      const reader = openSync(path, 'r');
      rmSync(folder, { recursive: true });
      return {
        reader,
        writer: both,
        [Symbol.dispose]() {
          closeSync(reader);
          closeSync(both);
        },
      };
    }

    it('lets no parked read change what is mapped later', async () => {
      using ends = await pipe();
      let done: Promise<unknown>;
      {
        using buffer = heap.allocSync(PAGE);
        using mapping = buffer.map();
        done = new Promise((resolve) => read(ends.reader, new Uint8Array(mapping.buffer), 0, PAGE, null, resolve));
        await sleep(20);
      }
      await collect();
      using other = heap.allocSync(PAGE);
      const later = Array.from({ length: 1000 }, () => other.map());
      writeSync(ends.writer, 'x'.repeat(PAGE));
      await done;
      assert(other.read((bytes) => bytes.every((byte) => byte === 0)));
      for (const mapping of later) mapping.close();
    });

    it('survives threads that touch the bytes', async () => {
      for (let round = 0; round < 5; round++) {
        using buffer = heap.allocSync(8 * MIB);
        const mapping = buffer.map();
        const work = promisify(randomFill)(new Uint8Array(mapping.buffer));
        await sleep(round);
        mapping.close();
        await work;
      }
    });

    it('survives a socket that has not sent them yet', async () => {
      const { createServer } = await import('node:net');
      const server = createServer((peer) => setTimeout(() => peer.resume(), 50)).listen(0);
      await once(server, 'listening');
      const client = new Socket().connect((server.address() as { port: number }).port);
      await once(client, 'connect');
      using buffer = heap.allocSync(16 * MIB);
      const mapping = buffer.map();
      const sent = new Promise((resolve) => client.write(new Uint8Array(mapping.buffer), resolve));
      mapping.close();
      await collect();
      await sent;
      client.destroy();
      server.close();
    });
  });

  it('leaves memory to the ArrayBuffer script moved it to', async function () {
    if (transfer === undefined) this.skip();
    await leavesNothing(async () => {
      using buffer = heap.allocSync(PAGE);
      const mapping = buffer.map();
      const moved = transfer.call(mapping.buffer);
      mapping.close();
      await collect();
      buffer.write((bytes) => bytes.fill(8));
      assert.equal(new Uint8Array(moved)[PAGE - 1], 8);
    });
  });

  it('survives structuredClone and transfer lists', async () => {
    await leavesNothing(() => {
      using buffer = heap.allocSync(PAGE);
      const mapping = buffer.map();
      assert.equal(structuredClone(mapping.buffer).byteLength, PAGE);
      try {
        structuredClone(mapping.buffer, { transfer: [mapping.buffer] });
      } catch (error) {
        assert.equal((error as Error).name, 'DataCloneError');
      }
      mapping.close();
    });
  });

  it('shows read() and write() new memory after script has detached the old', function () {
    if (transfer === undefined) this.skip();
    using buffer = heap.allocSync(PAGE);
    buffer.write((bytes) => transfer.call(bytes.buffer));
    assert.equal(
      buffer.read((bytes) => bytes.length),
      PAGE,
    );
  });

  it('may be closed while a typed array is at work on it', () => {
    using buffer = heap.allocSync(PAGE);
    const mapping = buffer.map();
    const bytes = new Uint8Array(mapping.buffer);
    bytes.sort((a, b) => {
      mapping.close();
      return a - b;
    });
    const closing = (victim: { close(): void }) => ({
      valueOf() {
        victim.close();
        return 3;
      },
    });
    assert.throws(() => bytes.fill(closing(mapping) as never), { name: 'TypeError' });
    using another = buffer.map();
    new Uint32Array(another.buffer).set({ length: 2, 0: closing(another), 1: 4 } as never);
    assert.equal(another.buffer.byteLength, 0);
    assert.equal(bytes.length, 0);
  });
});
