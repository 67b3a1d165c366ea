// SPDX-License-Identifier: MIT
/** Many regions of /dev/cma_mem: of strangers to each other, one after the other, at a time, and more than there is. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { CmaMem, type Region } from 'dmabuf';
import {
  cmaMemory,
  counters,
  describeModules,
  largestBlock,
  leavesNoPage,
  noPiece,
  PAGE,
  program,
  skipWithout,
  suiteWithParameters,
} from './support.ts';

/** Fewer where each takes long. */
const { DMABUF_ROUNDS } = process.env;
const rounds = Number(DMABUF_ROUNDS ?? 20_000);

const { path, missing } = program('cma-regions');

/** What the program says, which ends with an error where something is wrong. */
async function regions(context: Mocha.Context, ...words: (string | number)[]): Promise<Record<string, number>> {
  skipWithout(missing, context);
  let said: Record<string, number> = {};
  await leavesNoPage(async () => {
    const { stdout } = await promisify(execFile)(path, words.map(String));
    said = JSON.parse(stdout);
  });
  return said;
}

const count = (said: Record<string, number>, what: string) => said[what] ?? 0;

describeModules('two processes with several regions each', () => {
  // Else each of them would have its own again.
  suiteWithParameters('cma_mem', 'pool_max=0');

  it('never see a byte of the other, at any offset, where memory is given up and used again, too', async function () {
    const said = await regions(this, 'strangers', Math.min(rounds / 4, 150), 1);
    assert(count(said, 'mapped') > 50, JSON.stringify(said));
    assert(count(said, 'refused') > 500, JSON.stringify(said));
    // Else the one never got what the other one had. A few rounds need not come to it.
    assert(rounds < 1000 || count(said, 'inherited') > 0, JSON.stringify(said));
  });
});

describeModules('regions of cma_mem', () => {
  it(`are allocated and given up ${rounds.toLocaleString('en')} times`, async function () {
    this.timeout(Math.max(this.timeout(), 300_000));
    assert.deepEqual(await regions(this, 'churn', rounds), { allocated: rounds });
  });

  it('are there 1,000 at a time, each with its own memory', async () => {
    await leavesNoPage(() => {
      using cma = CmaMem.open();
      const held = Array.from({ length: 1000 }, () => cma.allocateSync(PAGE));
      assert.deepEqual(counters('cma_mem'), { buffers: 1000, bytes: 1000 * PAGE });
      for (const key of ['id', 'offset', 'physicalBase'] satisfies (keyof Region)[]) {
        assert.equal(new Set(held.map((region) => region[key])).size, 1000, key);
      }
      const write = (region: Region, value: number) => {
        using mapping = region.map();
        new Uint32Array(mapping.buffer).fill(value);
      };
      for (const region of held) write(region, region.id);
      // what goes leaves the others alone
      for (const region of held.filter((_, index) => index % 3 === 0)) region.close();
      for (const region of held.filter((_, index) => index % 3 !== 0)) {
        using mapping = region.map();
        assert(new Uint32Array(mapping.buffer).every((word) => word === region.id));
      }
      const again = Array.from({ length: 334 }, () => cma.allocateSync(PAGE));
      for (const region of again) {
        using mapping = region.map();
        assert(new Uint32Array(mapping.buffer).every((word) => word === 0));
      }
    });
  });

  it('are refused with what CMA has left where it is exhausted, and all goes on then', async () => {
    // more than one block of the page allocator
    const piece = 1.5 * largestBlock();
    await leavesNoPage(async () => {
      using cma = CmaMem.open();
      const held: Region[] = [];
      const refused = { code: 'ENOMEM', errno: -12, syscall: 'ioctl', path: '/dev/cma_mem', message: noPiece() };
      assert.throws(() => {
        for (;;) held.push(cma.allocateSync(piece));
      }, refused);
      await assert.rejects(cma.allocate(piece), refused);
      if (cmaMemory().total === 0) return assert.equal(held.length, 0);
      const last = held.pop();
      assert(last);
      {
        // what is there can be used, small ones are to be had
        using small = cma.allocateSync(PAGE);
        using mapping = last.map();
        using buffer = small.export();
        mapping.buffer.slice(0, 16);
        assert(buffer.read((bytes) => bytes.every((byte) => byte === 0)));
      }
      last.close();
      using again = await cma.allocate(piece);
      using mapping = again.map();
      assert(new Uint32Array(mapping.buffer).every((word) => word === 0));
    });
  });
});
