// SPDX-License-Identifier: MIT
/** How long contiguous memory lasts: our DMA heap beside the kernel's own heap, by the same trace. */
import assert from 'node:assert/strict';
import { guest } from './run-guest.ts';

const SEED = 20261121;
const CALLS = 10_000;

describe('64 MiB of CMA', () => {
  it("has room for as many of a trace's buffers with the DMA heap as with the kernel's own", async function () {
    // A lab kernel may have to be built first.
    this.timeout(1_800_000);
    const heaps = ['dma-heap reserved', 'ion ion_dma_heap'];
    const traces = heaps.map((heap) => `node test/guest/children/trace.ts ${SEED} ${CALLS} ${heap}`);
    const options = ['--kernel', 'lab', '--cma', '64', '--timeout', '900'];
    const { code, stdout, stderr } = await guest([...options, '--', 'sh', '-ec', traces.join('\n')]);
    assert.equal(code, 0, stderr);
    const [theirs, ours] = `${stdout}`
      .trim()
      .split('\n')
      .map((line): { allocations: number; failed: number } => JSON.parse(line));
    assert(theirs && ours);
    assert.equal(ours.allocations, theirs.allocations);
    assert(ours.allocations > CALLS / 3);
    // Else the trace asks for too little to tell them apart.
    assert(theirs.failed > 0, 'no allocation of the trace failed');
    assert(
      ours.failed <= theirs.failed,
      `${ours.failed} of ${ours.allocations} failed, with reserved ${theirs.failed}`,
    );
  });
});
