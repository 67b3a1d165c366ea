// SPDX-License-Identifier: MIT
/** Memory that the kernel would end a process for rather than refuse it. @module */
import { constants as osConstants, totalmem } from 'node:os';
import { kibibytes, memoryInfo } from './advice.js';
import type { Handle } from './native.js';

/** Bytes of allocations under way, which the kernel's figures may not show yet. */
let pending = 0;
/** A small one is not worth the look. */
const UNSEEN = 1 << 24;
/** Of RAM, what other programs keep. */
const LEFT = 1 / 16;

/**
 * Whether so much memory is to be had beside what was asked for before.
 * @param usesCma whether its pages can be moved @internal
 */
export function fits(size: number, usesCma: boolean): boolean {
  if (size + pending < UNSEEN) return true;
  const available = memoryInfo('MemAvailable');
  if (available === undefined) return true;
  // Free pages of CMA count as available, and go only to memory that can be moved.
  const others = usesCma ? 0 : (memoryInfo('CmaFree') ?? 0);
  return size + pending <= available - others - totalmem() * LEFT;
}

/** What to know of an allocation that was refused so: it may be less than is available. @internal */
export function leftAdvice(size: number): string {
  return size < UNSEEN ? '' : ` ${kibibytes(totalmem() * LEFT)} of that are left to other programs.`;
}

/**
 * Memory that the kernel would end a process for rather than refuse it: -ENOMEM instead, where what is
 * available does not go round.
 * @param usesCma whether its pages can be moved @internal
 */
export async function ifAvailable(size: number, usesCma: boolean, start: () => Promise<Handle>): Promise<Handle> {
  if (!fits(size, usesCma)) return -osConstants.errno.ENOMEM;
  pending += size;
  try {
    return await start();
  } finally {
    pending -= size;
  }
}

/** The same, blocking. @internal */
export function ifAvailableSync(size: number, usesCma: boolean, start: () => Handle): Handle {
  return fits(size, usesCma) ? start() : -osConstants.errno.ENOMEM;
}
