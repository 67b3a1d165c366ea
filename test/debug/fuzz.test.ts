// SPDX-License-Identifier: MIT
/**
 * Random calls on the devices and their dma-bufs: ../guest/c/fuzz.c. DMABUF_FUZZ_CALLS says how many (default 20,000),
 * DMABUF_FUZZ_SEED which ones (default 1), DMABUF_FUZZ_PROCESSES and DMABUF_FUZZ_THREADS who makes them.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  allCounters,
  describeModules,
  eventually,
  heapLines,
  load,
  program,
  unload,
  withParameters,
} from '../guest/support.ts';

const {
  DMABUF_FUZZ_CALLS = '20000',
  DMABUF_FUZZ_SEED = '1',
  DMABUF_FUZZ_PROCESSES = '4',
  DMABUF_FUZZ_THREADS = '3',
} = process.env;

/** What fuzz.c prints with --json. */
interface Report {
  /** As text: it has 64 bits. */
  seed: string;
  calls: number;
  seconds: number;
  /** Workers started, and how many of them were killed. */
  generations: number;
  kills: number;
  forks: number;
  childKills: number;
  /** Looks at memory that could have shown somebody else's bytes. */
  audits: number;
  /** Of one process with one thread only. */
  digest?: string;
  kinds: Record<string, { made: number; succeeded: number; errors: Record<string, number> }>;
}

/** Calls of the runs that are repeated: enough for a third worker to begin. */
const REPEATED = 700;

/** What the many calls find: heaps of all types, carveouts in two pieces of memory, some of them soon used up. */
const HEAPS = [
  ...['4:dma:ion_dma_heap', '1:system_contig:ion_system_contig_heap', '0:system:ion_system_heap'],
  ...['2:carveout:carveout:512K', '3:protected:secured:256K', '6:iommu:iommu', '7:carveout:small:16K'],
  ...['5:protected:secured_dma', '31:carveout:last:1M'],
];

/** Its iommu heap: what is not mapped as others are. */
const DIRECT_IO = 'direct_io=0x40';

/** With fewer calls some kinds may not have had their turn. */
const ENOUGH = 20_000;

/** Milliseconds that a call may take on a slow machine with four processors. */
const CALL_MS = 20;

/** A fuzzer in which these always fail tests nothing. So it does with the first forms, which not all programs have. */
const mustSucceed = [
  'EXPORTER_GET_FD',
  'EXPORTER_IOC_GET_FD',
  'ION_IOC_ALLOC',
  'ION_IOC_HEAP_QUERY',
  'ION_IOC_ABI_VERSION',
  'ION legacy ALLOC',
  'ION legacy FREE',
  'ION legacy MAP',
  'ION legacy SHARE',
  'ION legacy IMPORT',
  'ION legacy SYNC',
  'ION legacy CUSTOM',
  'ION legacy CLEAN',
  'ION legacy INV',
  'ION legacy CLEAN_INV',
  'ION legacy CLEAN by descriptor',
  'ION legacy INV by descriptor',
  'ION legacy CLEAN_INV by descriptor',
  'ION legacy GET_FLAGS',
  'DMA_HEAP_IOCTL_ALLOC',
  'DMA_HEAP_IOCTL_ALLOC, shorter',
  'DMA_HEAP_IOCTL_ALLOC, longer',
  'CMEM_GET_PHYS',
  'CMEM_MAP',
  'CMEM_GET_SIZE',
  'CMEM_UNMAP',
  'CMEM_ALLOCATE',
  'CMEM_CONNECT',
  'CMEM_GET_TOTAL_SIZE',
  'CMEM_CACHE_FLUSH',
  'CMEM_IOC_ALLOC',
  'CMEM_IOC_EXPORT',
  'DMA_BUF_IOCTL_SYNC',
  'DMA_BUF_IOCTL_EXPORT_SYNC_FILE',
  'DMA_BUF_SET_NAME_A',
  'DMA_BUF_SET_NAME_B',
  'open',
  'close',
  'dup',
  'foreign descriptor',
  'mmap',
  'munmap',
  'mremap',
  'mprotect',
  'madvise',
  'mlock, munlock',
  'read from a mapping',
  'write to a mapping',
  'lseek',
  'poll',
  'fcntl',
  'sendmsg',
  'recvmsg',
  'fdinfo',
  'debugfs, sysfs, tracefs',
  'vgem import',
  'vgem export',
  'vgem close',
  'vgem fence',
  'fork',
];

/** What these are for: the errors they must have met. */
const mustFail: Record<string, string[]> = {
  EXPORTER_GET_FD: ['EFAULT'],
  EXPORTER_IOC_GET_FD: ['EFAULT', 'ENOTTY'],
  ION_IOC_ALLOC: ['EBADF', 'EFAULT', 'EINVAL', 'ENODEV', 'ENOMEM', 'ENOTTY'],
  ION_IOC_HEAP_QUERY: ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  ION_IOC_ABI_VERSION: ['EFAULT', 'ENOTTY'],
  'ION legacy ALLOC': ['EBADF', 'EFAULT', 'EINVAL', 'ENODEV', 'ENOMEM', 'ENOTTY'],
  'ION legacy FREE': ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  'ION legacy MAP': ['EBADF', 'EINVAL', 'ENOTTY'],
  'ION legacy SHARE': ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  'ION legacy IMPORT': ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  'ION legacy IMPORT, first form': ['EBADF', 'EINVAL', 'ENOTTY'],
  'ION legacy SYNC': ['EBADF', 'EINVAL', 'ENOTTY'],
  'ION legacy CUSTOM': ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  'ION legacy CLEAN': ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  'ION legacy INV': ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  'ION legacy CLEAN_INV': ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  'ION legacy CLEAN by descriptor': ['EBADF', 'EINVAL', 'ENOTTY'],
  'ION legacy INV by descriptor': ['EBADF', 'EINVAL', 'ENOTTY'],
  'ION legacy CLEAN_INV by descriptor': ['EBADF', 'EINVAL', 'ENOTTY'],
  'ION legacy GET_FLAGS': ['EBADF', 'EINVAL', 'ENOTTY'],
  DMA_HEAP_IOCTL_ALLOC: ['EBADF', 'EFAULT', 'EINVAL', 'ENOMEM', 'ENOTTY'],
  'DMA_HEAP_IOCTL_ALLOC, too short': ['EINVAL'],
  CMEM_GET_PHYS: ['EINVAL', 'EPERM', 'ENOTTY'],
  CMEM_MAP: ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  CMEM_GET_SIZE: ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  CMEM_UNMAP: ['EBADF', 'EINVAL', 'ENOTTY'],
  CMEM_ALLOCATE: ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  CMEM_CONNECT: ['EBADF', 'EINVAL', 'ENOTTY'],
  CMEM_GET_TOTAL_SIZE: ['ENOTTY'],
  CMEM_CACHE_FLUSH: ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  CMEM_IOC_ALLOC: ['EBADF', 'EFAULT', 'EINVAL', 'ENOMEM', 'ENOTTY'],
  CMEM_IOC_EXPORT: ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  DMA_BUF_IOCTL_SYNC: ['EBADF', 'EFAULT', 'EINVAL', 'ENOTTY'],
  'ioctl, another number': ['ENOTTY'],
  mmap: ['EBADF', 'EACCES', 'EINVAL', 'ENODEV', 'EPERM'],
  'debugfs, sysfs, tracefs': ['EACCES'],
  mremap: ['EFAULT', 'EINVAL'],
  'read from a mapping': ['EFAULT'],
};

const { path, missing } = program('fuzz');

/** @throws an error that says what was found and how to find it again */
function fuzz(calls: number, seed: string, processes: string, threads: string): Promise<Report> {
  const args = ['--seed', seed, '--calls', String(calls), '--processes', processes, '--threads', threads];
  return new Promise((resolve, reject) => {
    const child = execFile(path, [...args, '--json'], { maxBuffer: 1 << 20 }, (error, stdout, stderr) => {
      if (!error) resolve(JSON.parse(stdout));
      else reject(new Error(`ended with ${error.code ?? error.signal}: ${path} ${args.join(' ')}\n${stderr}`));
    });
    // Its progress.
    child.stderr?.pipe(process.stderr);
  });
}

/** What each carveout has left. */
const largestFree = () => heapLines().map(({ heap, largest_free }) => [heap, largest_free]);

describeModules('random calls', () => {
  const calls = Number(DMABUF_FUZZ_CALLS);

  before(function () {
    if (missing !== undefined) {
      assert(this.test?.parent);
      this.test.parent.title += ` (${missing})`;
      this.skip();
    }
    load('vgem');
  });

  after(async () => {
    if (missing === undefined) await eventually(() => unload('vgem'));
  });

  it('are the same ones with the same seed', async function () {
    this.timeout(3 * REPEATED * CALL_MS + 60_000);
    const reports = [];
    // The workers of 42: one that shares its memory and is killed, an auditor that is killed, another one.
    for (const seed of ['42', '42', '6']) reports.push(await fuzz(REPEATED, seed, '1', '1'));
    const [first, again, other] = reports.map(({ seconds: _, kinds, ...report }) => ({
      ...report,
      kinds: Object.fromEntries(Object.entries(kinds).map(([name, { made }]) => [name, made])),
    }));
    assert(first && first.kills >= 2 && first.generations >= 3, JSON.stringify(first));
    assert.match(first?.digest ?? '', /^[0-9a-f]{16}$/);
    assert.deepEqual(again, first);
    assert.notEqual(other?.digest, first?.digest);
    assert.notDeepEqual(other?.kinds, first?.kinds);
  });

  it(`do no harm: ${DMABUF_FUZZ_CALLS} with seed ${DMABUF_FUZZ_SEED}`, async function () {
    this.timeout(calls * CALL_MS + 120_000);
    let found: Report | undefined;
    await withParameters('ion', [`heaps=${HEAPS.join(',')}`, DIRECT_IO, 'legacy_abi=1'], async () => {
      const before = allCounters();
      const free = largestFree();
      found = await fuzz(calls, DMABUF_FUZZ_SEED, DMABUF_FUZZ_PROCESSES, DMABUF_FUZZ_THREADS);
      assert.deepEqual(allCounters(), before);
      assert.deepEqual(largestFree(), free);
    });
    assert(found);
    const report = found;
    // Those of a process that is killed in a call do not return.
    assert(report.calls > calls * 0.98 - 16 && report.calls <= calls, `${report.calls} of ${calls} calls returned`);
    const rate = Math.round(report.calls / report.seconds);
    console.log(
      `      ${report.calls} calls, ${rate} a second, in ${report.generations} workers, ${report.kills} killed`,
    );
    if (calls < ENOUGH) return;

    const { kinds } = report;
    const never = Object.entries(kinds).filter(([, { made }]) => made === 0);
    assert.deepEqual(
      never.map(([name]) => name),
      [],
      'never made',
    );
    const known = [...mustSucceed, ...Object.keys(kinds).filter((name) => name.endsWith(', first form'))];
    assert.deepEqual(
      known.filter((name) => !kinds[name]?.succeeded),
      [],
      'never succeeded',
    );
    for (const [name, errors] of Object.entries(mustFail)) {
      assert.deepEqual(
        errors.filter((error) => !kinds[name]?.errors[error]),
        [],
        `errors ${name} never met`,
      );
    }
    const { forks, kills, childKills, audits } = report;
    assert(
      forks > 0 && kills > 0 && childKills > 0 && audits > 0,
      JSON.stringify({ forks, kills, childKills, audits }),
    );
  });
});
