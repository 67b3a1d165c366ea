// SPDX-License-Identifier: MIT
/** How long contiguous memory lasts: our DMA heap beside the kernel's own heap, by the same trace. */
import assert from 'node:assert/strict';
import { guest } from './run-guest.ts';

const SEED = 20261121;
const CALLS = 10_000;

/** What the placement of kept memory may cost beside the kernel's heap: 0.86 to 1.08 of its failures, in five runs. */
const KEPT = 1.2;

interface Result {
  allocations: number;
  failed: number;
}

/** The trace with each of these heaps, in a guest with these options. */
async function traced(options: string[], heaps: string[]): Promise<Result[]> {
  const traces = heaps.map((heap) => `node test/guest/children/trace.ts ${SEED} ${CALLS} ${heap}`);
  const lab = ['--kernel', 'lab', '--cma', '64', '--timeout', '900', ...options];
  const { code, stdout, stderr } = await guest([...lab, '--', 'sh', '-ec', traces.join('\n')]);
  assert.equal(code, 0, stderr);
  return `${stdout}`
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

describe('64 MiB of CMA', () => {
  it("has room for as many of a trace's buffers with the DMA heap as with the kernel's own", async function () {
    // A lab kernel may have to be built first.
    this.timeout(1_800_000);
    const [theirs, kept] = await traced([], ['dma-heap reserved', 'ion ion_dma_heap']);
    const [ours] = await traced(['--module', 'ion_lite pool_max=0'], ['ion ion_dma_heap']);
    assert(theirs && kept && ours);
    assert(ours.allocations > CALLS / 3);
    // Else the trace asks for too little to tell them apart.
    assert(theirs.failed > 0, 'no allocation of the trace failed');
    for (const { allocations } of [ours, kept]) assert.equal(allocations, theirs.allocations);
    const said = `of ${ours.allocations} failed ${ours.failed}, ${kept.failed} where freed memory is kept, with reserved ${theirs.failed}`;
    assert(ours.failed <= theirs.failed, said);
    assert(kept.failed <= theirs.failed * KEPT, said);
  });
});
