// SPDX-License-Identifier: MIT
// What the kernel says about itself when something is wrong, found in its console.
import knownReports from './known-reports.json' with { type: 'json' };

/** Beginnings of reports: warnings, BUGs, oopses, sanitizers, lockdep, leaks, DMA-API, page faults, panics. */
const BEGINNINGS: RegExp[] = [
  /\bWARNING: /,
  /\bBUG: /,
  /\bkernel BUG at /,
  /\bKernel BUG\b/,
  // The slab allocator: BUG kmalloc-64 (Not tainted): Poison overwritten
  /\bBUG .+ \((Not tainted|Tainted: [^)]*)\): /,
  /\bInternal error: /,
  /\bOops\b.*:/,
  /\bUnable to handle kernel /,
  /\bUnhandled (fault|prefetch abort|context fault)\b/,
  /\b[Uu]nhandled (page|alignment|fixup) fault\b/,
  /\bgeneral protection fault\b/,
  /\bSError Interrupt on CPU/,
  // Whatever the architecture calls it, the kernel counts them: divide error: 0000 [#1]
  /: .*\[#\d+\]/,
  /\bKernel panic - not syncing/,
  /\bUBSAN: /,
  /\bKASAN: /,
  /\bKCSAN: /,
  /\bKFENCE: /,
  /\bkmemleak: \d+ new suspected memory leaks/,
  // Not what it says about itself at boot, nor the rest of a report.
  /\bDMA-API: (?!preallocated |debugging enabled |enable driver filter|switching off|Mapped at:)/,
  /\barm-smmu.*\b(event(:| 0x)|Unhandled context fault|unexpected global)/,
  /\bDMAR: .*\bfault\b|\bAMD-Vi: Event logged\b/,
  /\bINFO: (possible|inconsistent|suspicious|trying to register|task .* blocked .*for more than|rcu_.*detected)/,
  /\bpossible (circular|recursive) locking\b/,
  /\bpage allocation failure\b/,
  /\bBad (page|rss-counter) state\b/,
  // Page poisoning.
  /\bpagealloc: (memory corruption|single bit error)\b/,
  /\brefcount_t: /,
  /\blist_(add|del) corruption\b/,
  /\bscheduling while atomic\b/,
  /\bslab error\b|\bSlab corruption\b|\bSlab cache still has objects\b/,
  /\busercopy: Kernel memory (exposure|overwrite)/,
  /\bstack-protector: /,
  /\bsoft lockup\b|\bhard LOCKUP\b/,
  // A detector that has given up.
  /\bkmemleak: (Kernel memory leak detector disabled|Memory pool empty|Cannot )/,
  /\bturning off the locking correctness validator\b/,
  /\bStack depot reached limit\b/,
  // Our own first processes: they say why before they end, and the kernel panics over it.
  /^dmabuf-(agent|init): /,
];

const PANIC = /\bKernel panic - not syncing/;
const CUT = /-{4,}\[ cut here \]-{4,}/;
const END = /-{3,}\[ end /;
const WARNED = 9;
/** Bits of the kernel's taint mask that stand for a report: a died kernel, a bad page, a warning, a lockup. */
const TAINTS: [bit: number, what: string][] = [
  [5, 'a bad page'],
  [7, 'an oops or BUG'],
  [WARNED, 'a warning'],
  [14, 'a lockup'],
];
/** Lines shown of a report whose end is not marked. */
const LINES_AFTER = 60;
const LINES_BEFORE = 8;

interface Known {
  pattern: string;
  /** What must be said with it, ahead or in the next line: other reports begin with the same words. */
  with?: string;
  kernels: string[];
  architectures: string[];
  reason: string;
}

/** Watches console lines and keeps the reports among them. */
export class ReportWatch {
  /** Every report, as the lines it consists of. */
  readonly reports: string[][] = [];
  panicked = false;
  #known: Known[];
  #knownSeen = false;
  /** Lines since the mark before a warning or BUG: its message stands there, ahead of what we know it by. */
  #before: string[] = [];
  /** A known report, if the next line says so. */
  #waiting: { line: string; saying: string } | undefined;
  #open: string[] | undefined;
  #left = 0;

  constructor(kernel: string, architecture: string) {
    this.#known = (knownReports as Known[]).filter(
      ({ kernels, architectures }) => kernels.includes(kernel) && architectures.includes(architecture),
    );
  }

  line(line: string): void {
    if (PANIC.test(line)) this.panicked = true;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) {
      if (new RegExp(waiting.saying).test(line)) {
        this.#excuse();
        return;
      }
      this.#begin(waiting.line);
    }
    const begins = BEGINNINGS.some((beginning) => beginning.test(line));
    if (begins && this.#isKnown(line)) return;
    if (this.#open) {
      this.#open.push(line);
      if (--this.#left <= 0 || (END.test(line) && !this.panicked)) this.#open = undefined;
      if (begins) this.#left = LINES_AFTER;
    } else if (begins) {
      this.#begin(line);
    } else if (CUT.test(line)) {
      this.#before = [line];
    } else if (this.#before.length > 0 && this.#before.length < LINES_BEFORE) {
      this.#before.push(line);
    }
  }

  #begin(line: string): void {
    this.#open = [...this.#before, line];
    this.#left = LINES_AFTER;
    this.reports.push(this.#open);
    this.#before = [];
  }

  #excuse(): void {
    this.#knownSeen = true;
    this.#before = [];
  }

  #isKnown(line: string): boolean {
    for (const { pattern, with: saying } of this.#known) {
      if (saying !== undefined && new RegExp(saying).test(line)) {
        this.#knownSeen = true;
        if (this.#before.length > 0) this.#before.push(line);
        return true;
      }
      if (!new RegExp(pattern).test(line)) continue;
      if (saying === undefined || this.#before.some((one) => new RegExp(saying).test(one))) this.#excuse();
      // Part of the report that is being said.
      else if (this.#open) return false;
      else this.#waiting = { line, saying };
      return true;
    }
    return false;
  }

  /** What the taint mask says happened although no line was seen that tells. */
  taint(mask: number): void {
    if (this.#waiting) this.#begin(this.#waiting.line);
    if (this.reports.length > 0) return;
    // A known warning leaves its mark like any other; nothing else of the mask is excused.
    const unexplained = this.#knownSeen ? mask & ~(1 << WARNED) : mask;
    const what = TAINTS.filter(([bit]) => unexplained & (1 << bit)).map(([, text]) => text);
    if (what.length > 0) this.reports.push([`the kernel is tainted (${mask}): there was ${what.join(', ')}`]);
  }
}
