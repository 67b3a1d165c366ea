// SPDX-License-Identifier: MIT
/** Which console lines are reports of the kernel, in the words of 5.10 to 7.2. */
import assert from 'node:assert/strict';
import { ReportWatch } from '../../scripts/src/reports.ts';

const REPORTS = [
  'BUG: KASAN: slab-out-of-bounds in foo+0x1/0x2',
  'BUG: KFENCE: use-after-free read in foo+0x1/0x2',
  'UBSAN: array-index-out-of-bounds in drivers/x.c:12:3',
  'WARNING: possible circular locking dependency detected',
  'WARNING: fs/x.c:12 at foo+0x1/0x2, CPU#0: bash/12',
  'INFO: trying to register non-static key.',
  'kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)',
  'DMA-API: edu 0000:00:02.0: device driver frees DMA memory with different size',
  'DMA-API: debugging out of memory - disabling',
  'kmemleak: Kernel memory leak detector disabled',
  'kmemleak: Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE',
  'turning off the locking correctness validator.',
  'Stack depot reached limit capacity',
  'refcount_t: underflow; use-after-free.',
  'list_add corruption. prev->next should be next (c1), but was 0.',
  'BUG: Bad page state in process node  pfn:40000',
  'pagealloc: memory corruption',
  'pagealloc: single bit error',
  'BUG kmalloc-64 (Not tainted): Poison overwritten',
  'BUG kmalloc-64 (Tainted: G    B      O      ): Redzone overwritten',
  'BUG: sleeping function called from invalid context at x.c:1',
  'kernel BUG at mm/slub.c:305!',
  'Unable to handle kernel NULL pointer dereference at virtual address 00000000 when write',
  'Internal error: Oops: 805 [#1] SMP ARM',
  'divide error: 0000 [#1] PREEMPT SMP',
  'INFO: task kworker/0:1:12 blocked for more than 120 seconds.',
  'INFO: task dd:12 blocked in I/O wait for more than 120 seconds.',
  'rcu: INFO: rcu_sched self-detected stall on CPU',
  'arm-smmu-v3 9050000.smmuv3: event 0x10 received:',
  'arm-smmu-v3 9050000.smmuv3: event: F_TRANSLATION client: 0000:00:02.0 sid: 0x10',
  'DMAR: [DMA Read NO_PASID] Request device [00:02.0] fault addr 0x0 [fault reason 0x06] PTE Read access is not set',
];

const HARMLESS = [
  'DMA-API: preallocated 65536 debug entries',
  'DMA-API: debugging enabled by kernel config',
  'DMA-API: Mapped at:',
  'kasan: KernelAddressSanitizer initialized (generic)',
  'kfence: initialized - using 2097152 bytes for 255 objects',
  'kmemleak: Kernel memory leak detector initialized (mem pool available: 15800)',
  'arm-smmu-v3 9050000.smmuv3: allocated 65536 entries for evtq',
  'DMAR: Host address width 39',
  'Run /init as init process',
  'ion_lite: loading out-of-tree module taints kernel.',
];

const reportsIn = (...lines: string[]) => {
  const watch = new ReportWatch('6.1', 'armhf');
  for (const line of lines) watch.line(`[    1.234567] ${line}`);
  return watch.reports.length;
};

describe('a line of the console', () => {
  for (const line of REPORTS) it(`is a report: ${line}`, () => assert.equal(reportsIn(line), 1));
  for (const line of HARMLESS) it(`is none: ${line}`, () => assert.equal(reportsIn(line), 0));

  it('belongs to a warning from its mark on, its message with it, to its end', () => {
    const watch = new ReportWatch('6.1', 'armhf');
    const warning = ['------------[ cut here ]------------', 'message', 'WARNING: x', '---[ end trace 0 ]---'];
    for (const line of ['before', ...warning, 'after']) watch.line(line);
    assert.deepEqual(watch.reports, [warning]);
  });

  it('need not have been seen where the taint mask tells', () => {
    const watch = new ReportWatch('6.1', 'armhf');
    watch.taint((1 << 12) | (1 << 9));
    assert.match(watch.reports.flat().join(), /a warning/);
  });

  it('excuse what is known of a kernel and an architecture, and nothing beside it', () => {
    const known = 'WARNING: CPU: 0 PID: 0 at kernel/jump_label.c:153 static_key_disable_cpuslocked+0x4c/0xf0';
    const seen = (kernel: string, architecture: string, taints: number, ...lines: string[]) => {
      const watch = new ReportWatch(kernel, architecture);
      for (const line of lines) watch.line(line);
      watch.taint(taints);
      return watch.reports.length;
    };
    const [WARNED, OOPSED] = [1 << 9, 1 << 7];
    assert.equal(seen('5.10', 'armhf', WARNED, known), 0);
    assert.equal(seen('5.10', 'armhf', WARNED, known, 'BUG: Bad page state in process node  pfn:40000'), 1);
    assert.equal(seen('5.10', 'armhf', WARNED | OOPSED, known), 1);
    assert.equal(seen('5.10', 'armhf', WARNED), 1);
    assert.equal(seen('5.10', 'arm64', WARNED, known), 1);
    assert.equal(seen('6.1', 'armhf', WARNED, known), 1);
  });

  it('excuse what begins like others by what it says ahead or next', () => {
    const cut = '------------[ cut here ]------------';
    const warning = 'WARNING: CPU: 0 PID: 106 at kernel/dma/debug.c:1129 check_sync+0x49c/0xabc';
    const known = 'DMA-API: misc udmabuf: device driver syncs DMA memory with different direction [size=4096 bytes]';
    const ours = 'DMA-API: dmabuf_core: device driver syncs DMA memory with different direction [size=4096 bytes]';
    const end = ['---[ end trace 0000000000000000 ]---', 'DMA-API: Mapped at:'];
    const seen = (...lines: string[]) => {
      const watch = new ReportWatch('debug', 'armhf');
      for (const line of lines) watch.line(line);
      watch.taint(1 << 9);
      return watch.reports.map(([first]) => first);
    };
    assert.deepEqual(seen(cut, warning, known, ...end), []);
    assert.deepEqual(seen(cut, known, warning, ...end), []);
    assert.deepEqual(seen(cut, warning, ours, ...end), [cut]);
    assert.deepEqual(seen(cut, ours, warning, ...end), [cut]);
    assert.deepEqual(seen(cut, warning, known, ...end, cut, warning, ours, ...end), [cut]);
    assert.deepEqual(seen(warning), [warning]);
    assert.deepEqual(seen(warning, warning), [warning]);
  });
});
