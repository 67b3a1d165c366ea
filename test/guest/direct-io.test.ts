// SPDX-License-Identifier: MIT
/**
 * Direct I/O into buffers: heaps of ion_lite that `direct_io=` names, and the others, which refuse it. What holds the
 * pages of a buffer that is closed is c/pins.c, where no garbage collector has a say.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { release } from 'node:os';
import { text } from 'node:stream/consumers';
import { openHeap } from 'dmabuf';
import { isThere, suiteWithDriver } from './drivers.ts';
import { describeEdus, EduProcess } from './edu.ts';
import {
  allCounters,
  debugfs,
  describeModules,
  idleCounters,
  leavesNoPage,
  PAGE,
  program,
  refuses,
  saysCached,
  skipWithout,
  suiteWithParameters,
  without,
} from './support.ts';

const MIB = 2 ** 20;
/** A block of each size that it is made of. */
const LENGTH = MIB + 64 * 1024 + PAGE;

const table = 'heaps=0:system:direct,1:system:plain,2:system_contig:contig';
/** Their masks. */
const DIRECT = '1';
const PLAIN = '2';

/** What the guest's root is on: nobody writes to it. */
const DISK = '/dev/vda';
/** A disk in memory, of a driver of the kernel's. */
const RAM = '/dev/ram0';

const EIO = 5;
const EFAULT = 14;
const EOPNOTSUPP = 95;

/** From 6.5 on io_uring leaves it to the pages whether they may be registered; before, mappings of files were refused. */
function registersMappingsOfFiles(): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release()) ?? [];
  return Number(major) * 100 + Number(minor) >= 605;
}

/** Why there is no such driver: no kernel of ours has it. */
const lacks = (driver: string) => (isThere(driver) ? undefined : `this kernel has no ${driver}`);

const pattern = (at: number) => (at * 7 + (at >> 12)) & 0xff;
const PATTERN = Uint8Array.from({ length: LENGTH }, (_, at) => pattern(at));

/** Opens a file past all caches for the time of `body`. */
function direct<T>(path: string, how: number, body: (file: number) => T): T {
  const file = openSync(path, how | constants.O_DIRECT);
  try {
    return body(file);
  } finally {
    closeSync(file);
  }
}

/** The first bytes of a file, as everybody reads them. */
function contents(path: string): Buffer {
  const bytes = Buffer.alloc(LENGTH);
  const file = openSync(path, 'r');
  try {
    assert.equal(readSync(file, bytes, 0, LENGTH, 0), LENGTH);
  } finally {
    closeSync(file);
  }
  return bytes;
}

/** Reads into a new buffer, and checks what is there. */
function readInto(path: string, heapName: string, cached = true): void {
  using heap = openHeap('ion', { heap: heapName });
  using buffer = heap.allocSync(LENGTH, { cached });
  buffer.write((bytes) => {
    assert.equal(
      direct(path, constants.O_RDONLY, (file) => readSync(file, bytes, 0, LENGTH, 0)),
      LENGTH,
    );
    assert.equal(contents(path).compare(bytes, 0, LENGTH), 0);
  });
}

describeEdus('a driver that maps what it has imported, without pages', (first) => {
  suiteWithParameters('ion', table, 'direct_io=1');

  it('maps a buffer for direct I/O as any other', async () => {
    await leavesNoPage(async () => {
      using heap = openHeap('ion', { heap: 'direct' });
      using buffer = heap.allocSync(LENGTH);
      await using edu = new EduProcess(buffer);
      await (await edu.import(buffer, first)).mmap('write');
      buffer.read(([byte]) => assert.equal(byte, 1));
    });
  });
});

describeModules('direct_io', () => {
  it('is refused for heaps that are not there, or not of scattered pages', async () => {
    await without('ion', () => {
      refuses('ion_lite', [table, 'direct_io=0x4'], /direct_io=0x4: there is no heap 2 of scattered pages$/);
      refuses('ion_lite', [table, 'direct_io=0x81'], /direct_io=0x81: there is no heap 7 of scattered pages$/);
    });
  });

  it('is refused with mem_accounting= where the kernel cannot map pages that are charged', async function () {
    if (!release().startsWith('5.10.')) this.skip();
    await without('ion', () => {
      refuses('ion_lite', [table, 'direct_io=1', 'mem_accounting=1'], /this kernel cannot map pages that are charged$/);
    });
  });

  describe('of a heap', () => {
    suiteWithParameters('ion', table, 'direct_io=1');
    beforeEach(() => writeFileSync(debugfs('ion/drain'), '1'));

    const { path: pins, missing } = program('pins');

    /** What c/pins.c says. */
    function run(context: Mocha.Context, ...args: string[]): string {
      skipWithout(missing, context);
      return execFileSync(pins, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim();
    }

    /** Closes a buffer whose pages are held, and goes on when nothing of it is left but these. */
    async function hold(context: Mocha.Context, ...args: string[]): Promise<void> {
      skipWithout(missing, context);
      context.timeout(Math.max(context.timeout(), 120_000));
      await leavesNoPage(async () => {
        const child = spawn(pins, args, { stdio: ['pipe', 'pipe', 'pipe'] });
        const complaint = text(child.stderr);
        const ended = once(child, 'exit');
        const said = String((await Promise.race([once(child.stdout, 'data'), ended]))[0]);
        if (said === 'held\n') {
          assert.deepEqual(allCounters(), idleCounters);
          assert.equal(readFileSync('/sys/class/misc/ion/pool_bytes', 'utf8'), '0\n');
        }
        child.stdin.end('\n');
        assert.deepEqual([said, await ended, await complaint], ['held\n', [0, null], '']);
      });
    }

    it('maps the pages of a buffer, all of them and some', async () => {
      await leavesNoPage(() => {
        using heap = openHeap('ion', { heap: 'direct' });
        for (const cached of [true, false]) {
          using buffer = heap.allocSync(LENGTH, { cached });
          using whole = buffer.map();
          using rest = buffer.map({ offset: MIB, length: LENGTH - MIB });
          const bytes = new Uint8Array(whole.buffer);
          assert(bytes.every((byte) => byte === 0));
          bytes.set(PATTERN);
          assert.deepEqual(new Uint8Array(rest.buffer).subarray(0, LENGTH - MIB), PATTERN.subarray(MIB));
        }
      });
    });

    it('keeps nothing of its buffers for others', async () => {
      await leavesNoPage(() => {
        using heap = openHeap('ion', { heap: 'direct' });
        heap.allocSync(LENGTH).close();
      });
      assert.equal(readFileSync('/sys/class/misc/ion/pool_bytes', 'utf8'), '0\n');
    });

    it('leaves pages of a closed buffer in a pipe, with their bytes, and nobody else gets them', async function () {
      await hold(this, 'vmsplice', DIRECT);
    });

    it('refuses vmsplice of another heap', async function () {
      await leavesNoPage(() => assert.equal(run(this, 'vmsplice', PLAIN), `refused: ${EFAULT}`));
    });

    describe('and a disk', () => {
      before(function () {
        if (existsSync(DISK)) return;
        assert(this.test?.parent);
        this.test.parent.title += ` (there is no ${DISK})`;
        this.skip();
      });

      it('has it read with O_DIRECT straight into a buffer', async () => {
        await leavesNoPage(() => readInto(DISK, 'direct'));
      });

      it('has it read by io_uring straight into a buffer', async function () {
        await leavesNoPage(() => assert.equal(run(this, 'uring', DIRECT, DISK), 'read'));
      });

      it('refuses a read into a buffer of another heap, or one that is not cached', async function () {
        await leavesNoPage(() => {
          assert.throws(() => readInto(DISK, 'plain'), { code: 'EFAULT' });
          if (!saysCached(false)) assert.throws(() => readInto(DISK, 'direct', false), { code: 'EFAULT' });
          // A read that is not waited for, and that comes in pieces, ends so.
          assert.equal(run(this, 'uring', PLAIN, DISK), `refused: ${EIO}`);
        });
      });

      it('leaves memory that io_uring knows to io_uring, to read and write, when the buffer is closed', async function () {
        if (registersMappingsOfFiles()) await hold(this, 'fixed', DIRECT, DISK);
        else assert.equal(run(this, 'fixed', DIRECT, DISK), `refused: ${EOPNOTSUPP}`);
      });

      it('lets io_uring register no memory of another heap', async function () {
        await leavesNoPage(() => assert.equal(run(this, 'fixed', PLAIN, DISK), `refused: ${EFAULT}`));
      });
    });

    describe('and a disk that is written to', () => {
      suiteWithDriver('brd', ['rd_nr=1', 'rd_size=4096'], lacks('brd'));

      it('has it written with O_DIRECT straight from a buffer, and read again', async () => {
        await leavesNoPage(() => {
          using heap = openHeap('ion', { heap: 'direct' });
          using buffer = heap.allocSync(LENGTH);
          buffer.write((bytes) => bytes.set(PATTERN));
          buffer.read((bytes) =>
            assert.equal(
              direct(RAM, constants.O_RDWR, (file) => writeSync(file, bytes, 0, LENGTH, 0)),
              LENGTH,
            ),
          );
          assert.equal(contents(RAM).compare(PATTERN), 0);
          readInto(RAM, 'direct');
        });
      });

      describe('and answers when it is told to', () => {
        suiteWithDriver('dm_mod', [], lacks('dm_mod'));

        it('leaves the pages of a buffer that is closed to a read with O_DIRECT, until that is over', async function () {
          writeFileSync(RAM, PATTERN);
          await hold(this, 'aio', DIRECT, RAM);
        });
      });
    });
  });
});
