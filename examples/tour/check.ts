// SPDX-License-Identifier: MIT

/** Something the tour claims is not so. */
export class TourError extends Error {}

/** Stops the tour with a sentence where a claim does not hold. */
export function check(claim: boolean, otherwise: string): asserts claim {
  if (!claim) throw new TourError(otherwise);
}
