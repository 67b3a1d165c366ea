// SPDX-License-Identifier: MIT
// What the kernel says about itself when something is wrong, found in its console.
import knownReports from './known-reports.json' with { type: 'json' };

/** Beginnings of reports: warnings, BUGs, oopses, sanitizers, lockdep, leaks, DMA-API, page faults, panics. */
const BEGINNINGS: RegExp[] = [
  /\bWARNING: /,
  /\bBUG: /,
  /\bkernel BUG at /,
  /\bKernel BUG\b/,
  /\bInternal error: /,
  /\bOops\b.*:/,
  /\bUnable to handle kernel /,
  /\bUnhandled (fault|prefetch abort|context fault)\b/,
  /\b[Uu]nhandled (page|alignment|fixup) fault\b/,
  /\bgeneral protection fault\b/,
  /\bKernel panic - not syncing/,
  /\bUBSAN: /,
  /\bKASAN: /,
  /\bKCSAN: /,
  /\bKFENCE: /,
  /\bkmemleak: \d+ new suspected memory leaks/,
  /\bDMA-API: /,
  /\barm-smmu.*\b(event 0x|Unhandled context fault)/,
  /\bINFO: (possible|inconsistent|suspicious|task .* blocked for more than|rcu_.* detected)/,
  /\bpossible (circular|recursive) locking\b/,
  /\bpage allocation failure\b/,
  /\bBad (page|rss-counter) state\b/,
  /\brefcount_t: /,
  /\blist_(add|del) corruption\b/,
  /\bscheduling while atomic\b/,
  /\bslab error\b|\bSlab corruption\b/,
  /\busercopy: Kernel memory (exposure|overwrite)/,
  /\bstack-protector: /,
  /\bsoft lockup\b|\bhard LOCKUP\b/,
];

const PANIC = /\bKernel panic - not syncing/;
const CUT = /-{4,}\[ cut here \]-{4,}/;
const END = /-{3,}\[ end /;
/** Bits of the kernel's taint mask that stand for a report: a died kernel, a bad page, a warning, a lockup. */
const TAINTS: [bit: number, what: string][] = [
  [5, 'a bad page'],
  [7, 'an oops or BUG'],
  [9, 'a warning'],
  [14, 'a lockup'],
];
/** Lines shown of a report whose end is not marked. */
const LINES_AFTER = 60;

interface Known {
  pattern: string;
  kernels: string[];
  reason: string;
}

/** Watches console lines and keeps the reports among them. */
export class ReportWatch {
  /** Every report, as the lines it consists of. */
  readonly reports: string[][] = [];
  panicked = false;
  #known: Known[];
  #knownSeen = false;
  #cut: string | undefined;
  #open: string[] | undefined;
  #left = 0;

  constructor(kernel: string) {
    this.#known = (knownReports as Known[]).filter(({ kernels }) => kernels.includes(kernel));
  }

  line(line: string): void {
    if (PANIC.test(line)) this.panicked = true;
    if (CUT.test(line)) this.#cut = line;
    const begins = BEGINNINGS.some((beginning) => beginning.test(line));
    if (begins && this.#known.some(({ pattern }) => new RegExp(pattern).test(line))) {
      this.#knownSeen = true;
      this.#cut = undefined;
      return;
    }
    if (this.#open) {
      this.#open.push(line);
      if (--this.#left <= 0 || (END.test(line) && !this.panicked)) this.#open = undefined;
      if (begins) this.#left = LINES_AFTER;
    } else if (begins) {
      this.#open = this.#cut === undefined ? [line] : [this.#cut, line];
      this.#left = LINES_AFTER;
      this.reports.push(this.#open);
      this.#cut = undefined;
    }
  }

  /** What the taint mask says happened although no line was seen that tells. */
  taint(mask: number): void {
    if (this.reports.length > 0 || this.#knownSeen) return;
    const what = TAINTS.filter(([bit]) => mask & (1 << bit)).map(([, text]) => text);
    if (what.length > 0) this.reports.push([`the kernel is tainted (${mask}): there was ${what.join(', ')}`]);
  }
}
