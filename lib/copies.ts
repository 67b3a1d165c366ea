// SPDX-License-Identifier: MIT
/** How often the CPU has copied the contents of buffers, of this thread's library. @module */

/** Copies so far, and their bytes. @internal */
export const copies = { count: 0, bytes: 0 };

/** Another one. @internal */
export function countCopy(bytes: number): void {
  copies.count++;
  copies.bytes += bytes;
}
