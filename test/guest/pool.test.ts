// SPDX-License-Identifier: MIT
/** Memory of freed buffers of the system heap, which is kept for the next ones. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type DmaBuf, openHeap } from 'dmabuf';
import {
  debugfs,
  describeModules,
  eventually,
  leavesNoPage,
  memory,
  PAGE,
  program,
  skipWithout,
  withParameters,
} from './support.ts';

/** MiB that are allocated in turns by two processes. */
const { DMABUF_ROUNDS = '512' } = process.env;

const MIB = 2 ** 20;
/** A block of each size that it is made of. */
const LENGTH = MIB + 64 * 1024 + 1;
const SIZE = Math.ceil(LENGTH / PAGE) * PAGE;
const EMPTY = Buffer.alloc(16 * MIB);

const names = [
  'max_bytes',
  'bytes',
  'zeroed_bytes',
  'cma_bytes',
  'reused_bytes',
  'expired_bytes',
  'reclaimed_bytes',
] as const;
type Figures = Record<(typeof names)[number], number>;

function figures(): Figures {
  const lines = readFileSync(debugfs('ion/pool'), 'utf8').trim().split('\n');
  const words = lines.map((line) => line.split(/ +/));
  assert.deepEqual(
    words.map(([name]) => name),
    names,
  );
  return Object.fromEntries(words.map(([name, value]) => [name, Number(value)])) as Figures;
}

const kept = () => Number(readFileSync('/sys/class/misc/ion/pool_bytes', 'utf8'));
const parameter = () => Number(readFileSync('/sys/module/ion_lite/parameters/pool_max', 'utf8'));
const drain = () => writeFileSync(debugfs('ion/drain'), '1');

const open = () => openHeap('ion', { heap: 'ion_system_heap' });

/** Allocates a buffer, checks that it is empty, and gives it up full. */
function fill(length = LENGTH, cached = true): void {
  using heap = open();
  using buffer = heap.allocSync(length, { cached });
  buffer.write((bytes) => {
    assert.equal(EMPTY.compare(bytes, 0, bytes.length, 0, bytes.length), 0);
    bytes.fill(0xa5);
  });
}

/** Allocates a page, and says which frame the page allocator took for it. */
function allocateTraced(allocate: () => DmaBuf): { buffer: DmaBuf; frame: number } {
  const instance = '/sys/kernel/tracing/instances/pool';
  const event = join(instance, 'events/kmem/mm_page_alloc');
  mkdirSync(instance);
  try {
    writeFileSync(join(event, 'filter'), `common_pid == ${process.pid} && order == 0`);
    writeFileSync(join(event, 'enable'), '1');
    const buffer = allocate();
    writeFileSync(join(event, 'enable'), '0');
    const text = readFileSync(join(instance, 'trace'), 'utf8');
    // Among what the kernel needs for itself.
    const [[, frame] = [], ...more] = text.matchAll(/ pfn=(\w+) .*gfp_flags=GFP_HIGHUSER\|.*__GFP_RETRY_MAYFAIL/g);
    assert(frame !== undefined && more.length === 0, text);
    return { buffer, frame: Number(frame) };
  } finally {
    rmdirSync(instance);
  }
}

describeModules('the pool of the system heap', () => {
  beforeEach(drain);

  it('keeps a sixteenth of RAM at most, if nothing else is said', () => {
    assert(parameter() <= (memory('MemTotal') * 1024) / 16 + PAGE && parameter() > MIB, `${parameter()}`);
    assert.equal(figures().max_bytes, parameter() - (parameter() % PAGE));
  });

  it('has the memory of a freed buffer, all of it zeroed after a while', async () => {
    assert.equal(kept(), 0);
    await leavesNoPage(() => fill());
    assert.equal(kept(), SIZE);
    await eventually(() => assert.equal(figures().zeroed_bytes, SIZE));
    assert.equal(figures().bytes, SIZE);
  });

  for (const [first, second] of [
    [true, true],
    [true, false],
    [false, true],
    [false, false],
  ] as const) {
    const called = (cached: boolean) => `${cached ? '' : 'not '}cached`;
    it(`gives memory that was ${called(first)} to a buffer that is ${called(second)}, without its bytes`, async () => {
      await leavesNoPage(async () => {
        fill(LENGTH, first);
        await eventually(() => assert.equal(figures().zeroed_bytes, kept()));
        const { reused_bytes: before } = figures();
        fill(LENGTH, second);
        assert.equal(figures().reused_bytes - before, SIZE);

        // Before it is zeroed, too, which begins 20 ms after it was given up: not each time on a slow machine.
        await eventually(() => {
          drain();
          fill(LENGTH, first);
          const dirty = figures();
          fill(LENGTH, second);
          assert.deepEqual([dirty.zeroed_bytes, figures().reused_bytes - dirty.reused_bytes], [0, SIZE]);
        });
      });
    });
  }

  it('does not have what a buffer holds', async () => {
    await leavesNoPage(() => {
      fill();
      using heap = open();
      using _buffer = heap.allocSync(LENGTH);
      assert.equal(kept(), 0);
    });
  });

  it('gives all of it back when it is drained', () => {
    fill();
    drain();
    assert.deepEqual([kept(), figures().zeroed_bytes], [0, 0]);
  });

  it('gives memory back when the kernel wants it', async () => {
    fill();
    const { reclaimed_bytes: before } = figures();
    writeFileSync('/proc/sys/vm/drop_caches', '2');
    await eventually(() => assert(figures().reclaimed_bytes > before));
    assert(kept() < SIZE);
  });

  it('does not keep a page that has failed', async function () {
    const offline = '/sys/devices/system/memory/hard_offline_page';
    skipWithout(existsSync(offline) ? undefined : 'this kernel knows nothing of failing memory', this);
    await leavesNoPage(() => {
      using heap = open();
      const { buffer, frame } = allocateTraced(() => heap.allocSync(PAGE));
      // It refuses, for the page is in use, and marks it all the same.
      assert.throws(() => writeFileSync(offline, `${frame * PAGE}`), /EBUSY|EIO/);
      buffer.close();
    });
    assert.equal(kept(), 0);
    fill(PAGE);
    assert.equal(kept(), PAGE);
  });

  it('counts as memory that is available', () => {
    const before = memory('KReclaimable');
    fill(16 * MIB);
    assert(memory('KReclaimable') - before > 15 * 1024, `${memory('KReclaimable') - before} KiB`);
  });

  it('keeps no more than pool_max says, and is empty with a new module', async () => {
    fill();
    await withParameters('ion', [`pool_max=${MIB}`], () => {
      assert.equal(kept(), 0);
      fill(4 * MIB);
      assert.equal(kept(), MIB);
    });
  });

  it('is not there with pool_max=0', async () => {
    await withParameters('ion', ['pool_max=0'], () => {
      fill();
      fill();
      assert(!existsSync('/sys/class/misc/ion/pool_bytes'));
      for (const name of ['pool', 'drain']) assert(!existsSync(debugfs(`ion/${name}`)), name);
    });
  });

  it(`shows no byte of another in ${DMABUF_ROUNDS} MiB that two processes fill and give up`, async function () {
    const { path, missing } = program('churn');
    skipWithout(missing, this);
    this.timeout(Math.max(this.timeout(), 600_000));
    const { reused_bytes: before } = figures();
    const { stdout } = await promisify(execFile)(path, [DMABUF_ROUNDS]);
    assert(Number(stdout) >= Number(DMABUF_ROUNDS) * MIB, stdout);
    assert(figures().reused_bytes > before);
  });
});
