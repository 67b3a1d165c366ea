// SPDX-License-Identifier: MIT
// Counts by name, of what is compared: those worth a line, and what is left of all.

/** How often each name came up, of one side. */
export type Counts = Map<string, number>;

const sumOf = (counts: Counts) => [...counts.values()].reduce((sum, each) => sum + each, 0);

/**
 * Ranks names, the largest count of any side first.
 * @param isShown whether these counts of a name, of all that each side has, are worth a line
 * @returns those, what the others have by side, how many others there are, and what each side has
 */
export function ranked(
  sides: readonly Counts[],
  isShown: (counts: readonly number[], all: readonly number[]) => boolean,
): { shown: { name: string; counts: number[] }[]; rest: number[]; others: number; all: number[] } {
  const all = sides.map(sumOf);
  const names = [...new Set(sides.flatMap((side) => [...side.keys()]))];
  const shown = names
    .map((name) => ({ name, counts: sides.map((side) => side.get(name) ?? 0) }))
    .filter(({ counts }) => isShown(counts, all))
    .sort((a, b) => Math.max(...b.counts) - Math.max(...a.counts));
  const rest = all.map((sum, i) => sum - shown.reduce((part, { counts }) => part + (counts[i] as number), 0));
  return { shown, rest, others: names.length - shown.length, all };
}
