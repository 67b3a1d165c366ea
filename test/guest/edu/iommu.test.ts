// SPDX-License-Identifier: MIT
/** Devices behind an IOMMU, in a guest with `-machine virt,iommu=smmuv3`: what is in pieces is in one piece for them. */
import assert from 'node:assert/strict';
import { behindIommu, describeEdus, EduProcess, hasIommu, holds, pattern, pieces } from '../edu.ts';
import { everyHeapTable } from '../ion.ts';
import { allocate, called, memories } from '../memories.ts';
import { largestBlock, leavesNoPage, PAGE, suiteWithParameters } from '../support.ts';

describeEdus('a device behind an IOMMU', (first, second) => {
  if (!hasIommu()) {
    it('needs an IOMMU: --arch arm64 --qemu-arg -machine --qemu-arg iommu=smmuv3');
    return;
  }
  suiteWithParameters('ion', everyHeapTable);

  for (const memory of memories.filter((memory) => !memory.protected)) {
    const what = memory.contiguous ? 'in one piece' : 'in one piece that is in many';
    it(`sees a buffer of ${called(memory)}, ${what}`, async () => {
      await leavesNoPage(async () => {
        assert([first, second].every(behindIommu));
        // No block of the page allocator is that large; of contiguous memory a little will do.
        const size = memory.contiguous ? 3 * PAGE : largestBlock() + PAGE;
        using from = allocate(memory, size);
        using to = allocate(memory, size);
        await using edu = new EduProcess(from, to);
        const reads = await edu.import(from, first);
        const writes = await edu.import(to, second, 'dynamic');
        const frames = await reads.pages();
        if (memory.contiguous) assert.equal(pieces(frames), 1);
        else assert(pieces(frames) > 1, 'it is in one piece by chance');
        for (const [imported, direction] of [
          [reads, 'both'],
          [writes, 'both'],
        ] as const) {
          const { pages, segments } = await imported.map(direction);
          assert.equal(pieces(pages), 1, `${segments} bytes`);
          assert.equal(pages.length, size / PAGE);
        }

        // From one piece to the next.
        const gap = frames.findIndex((frame, i) => i > 0 && frame !== (frames[i - 1] ?? 0) + 1);
        const at = (gap < 0 ? 1 : gap) * PAGE - 1001;
        const contents = pattern(1999, 1);
        from.write((bytes) => bytes.set(contents, at));
        const back = await edu.mapped(to, first, 'from-device');
        await reads.copy(at, back, 3, contents.length);
        const expected = new Uint8Array(size);
        expected.set(contents, 3);
        holds(to, expected);
      });
    });
  }
});
