// SPDX-License-Identifier: MIT
/** Which heap of a table is opened, without a kernel that has the table. */
import assert from 'node:assert/strict';
import { choose, type HeapChoice, type HeapTraits } from '../../lib/heap/choice.ts';

const usual = { contiguous: false, protected: false, uncached: true };

/** Protected ones first, as an order that nobody shall fall into. */
const table: HeapTraits[] = [
  { ...usual, id: 8, type: 'protected', name: 'mm', protected: true, contiguous: true },
  { ...usual, id: 9, type: 'protected', name: 'scattered', protected: true },
  { ...usual, id: 20, type: 'carveout', name: 'camera', contiguous: true },
  { ...usual, id: 24, type: 'carveout', name: 'display', contiguous: true },
  { ...usual, id: 25, type: 'iommu', name: 'iommu' },
  { ...usual, id: 30, type: 'system', name: 'system' },
  { ...usual, id: 0, name: 'cached-only', uncached: false },
];

const chosen = (choice: HeapChoice) => choose(table, choice, ({ type }) => type === 'system')?.name;

describe('the choice of a heap', () => {
  for (const [choice, name] of [
    [{}, 'system'],
    [{ cached: false }, 'system'],
    [{ cached: true }, 'system'],
    [{ contiguous: false }, 'system'],
    [{ contiguous: true }, 'camera'],
    [{ contiguous: true, cached: false }, 'camera'],
    [{ type: 'carveout' }, 'camera'],
    [{ type: 'iommu' }, 'iommu'],
    [{ type: 'carveout', contiguous: false }, undefined],
    [{ type: 'dma' }, undefined],
    [{ heap: 'display' }, 'display'],
    [{ heap: 24 }, 'display'],
    [{ heap: '24' }, undefined],
    [{ heap: 'display', contiguous: false }, undefined],
    [{ heap: 'cached-only', cached: false }, undefined],
    [{ heap: 0 }, 'cached-only'],
    // never by default
    [{ protected: false, contiguous: true }, 'camera'],
    [{ protected: true }, 'mm'],
    [{ protected: true, contiguous: false }, 'scattered'],
    [{ type: 'protected' }, 'mm'],
    [{ heap: 'mm' }, 'mm'],
    [{ heap: 8 }, 'mm'],
    [{ heap: 'mm', protected: false }, undefined],
  ] as const satisfies [HeapChoice, string | undefined][]) {
    it(`${JSON.stringify(choice)} is ${name ?? 'none of them'}`, () => {
      assert.equal(chosen(choice), name);
    });
  }

  it('falls on no protected heap where there is no other', () => {
    assert.equal(choose(table.slice(0, 2), {}), undefined);
  });
});
