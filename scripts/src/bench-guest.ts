// SPDX-License-Identifier: MIT
// Our heaps against the kernel's own, C against C, in a guest whose time follows instructions.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { compileHere } from './bench-here.ts';
import { label, makeRow, type Results, type Row, type Subject, sizeText, type Unit } from './bench-results.ts';
import { Failure } from './failure.ts';
import { requirePackages } from './host.ts';
import { chooseMachine, type Machine, toolsFor } from './machines.ts';
import { say } from './progress.ts';
import { projectRoot } from './project.ts';
import { eachLine, run, start } from './run.ts';

/** The kernel that has heaps of its own to compare with. */
export const KERNEL = 'lab';
/** For a buffer of 512 MiB, and as much again that is in use, twice. */
const MEMORY_MIB = 2048;
const CMA_MIB = 128;
/** An instruction takes 1 ns, not the 8 of --icount alone: the ticks of the timer, every 4 ms, weigh less. */
const INSTRUCTION_NS = ['--qemu-arg', '-icount', '--qemu-arg', 'shift=0'];
/** Many times what a full run takes. */
const TIMEOUT_S = 1800;

/** One of our heaps and what it is compared with, as bench/heap.c names them. */
interface Pair {
  group: string;
  /** The rows are named by it and a step. */
  name: string;
  ours: string;
  peer: string;
  peerName: string;
  /** Its rows: the steps that are of interest. */
  steps: Partial<Record<Step, Goal>>;
}

/** What bench/heap.c times. "device" is attach, map, a bracket of CPU access, unmap; "sustained" is alloc and close, and all work they leave behind. */
const steps = ['alloc', 'mmap', 'memset', 'device', 'unmap+close', 'sustained'] as const;
type Step = (typeof steps)[number];

/** What a ratio is to be at most, with buffers of these sizes. */
interface Goal {
  most?: number;
  from?: number;
  to?: number;
}

const system = { group: 'ION SYSTEM heap', peer: 'dma_heap:system', peerName: 'in-tree system' };
const contiguous = { peer: 'dma_heap:reserved', peerName: 'in-tree reserved' };
/** Sizes of what cameras and codecs use, of which the next buffer is often as large. */
const reused: Pair['steps'] = { alloc: { most: 0.2, from: 64 << 10, to: 8 << 20 } };
const eightMebi = { from: 8 << 20, to: 8 << 20 };
const ofContiguous: Pair['steps'] = {
  alloc: { most: 1 },
  mmap: {},
  memset: { most: 0.55 },
  device: { most: 0.9, ...eightMebi },
  'unmap+close': { most: 0.7 },
};

/** A new row is a pair here, or a step in bench/heap.c and its name above. */
const pairs: Pair[] = [
  {
    ...system,
    name: 'SYSTEM',
    ours: 'ion:0',
    steps: {
      alloc: { most: 1 },
      mmap: { most: 0.1, ...eightMebi },
      memset: {},
      device: { most: 0.9, ...eightMebi },
      'unmap+close': { most: 0.7 },
      sustained: { most: 0.9 },
    },
  },
  { ...system, name: 'SYSTEM, pool warm,', ours: 'ion:0:warm', steps: { alloc: { most: 0.15, from: 64 << 10 } } },
  { ...contiguous, group: 'ION DMA heap', name: 'DMA', ours: 'ion:4', steps: ofContiguous },
  { ...contiguous, group: 'ION DMA heap', name: 'DMA, reused,', ours: 'ion:4:warm', steps: reused },
  { ...contiguous, group: 'cma_mem', name: 'cma_mem', ours: 'cma_mem', steps: ofContiguous },
  { ...contiguous, group: 'cma_mem', name: 'cma_mem, reused,', ours: 'cma_mem:warm', steps: reused },
];

/** Bytes, and how often a buffer lives: until the figures repeat, and no longer. */
const sizes = [
  { size: 4 << 10, rounds: 2000, quick: 400 },
  { size: 64 << 10, rounds: 1000 },
  { size: 1 << 20, rounds: 400, quick: 60 },
  { size: 8 << 20, rounds: 64, quick: 16 },
  { size: 32 << 20, rounds: 24 },
];

const stepsOf = (pair: Pair) => steps.filter((step) => step in pair.steps);

/** One run of bench/heap.c. */
interface Job extends Pair {
  size: number;
  rounds: number;
}

/** A row that is not a step of a life: what prints one figure, for each side. */
interface Other {
  row: Subject & { size: number };
  ours: string;
  peer: string;
  unit?: Unit;
}

const library = { group: 'The library on the ION SYSTEM heap, in the guest', peerName: 'C', where: 'guest' } as const;
/** Of a line, the last of which counts: code is compiled as it gets hot. */
const LIBRARY_BATCHES = 4;

/** A row of the library against bench/here.c, and the line that both are told. */
function ofLibrary(name: string, goal: number, line: string): Other {
  const batches = `printf '${`${line}\\n`.repeat(LIBRARY_BATCHES)}'`;
  const last = (program: string) => `${batches} | ${program} | tail -n 1`;
  return {
    row: { ...library, name, size: 1 << 20, goal },
    ours: last('node bench/here.ts'),
    peer: last('/share/here'),
  };
}

const scaling = { group: 'As there is more of it', peerName: 'less of it', where: 'guest' } as const;

/** A row of bench/scale.c: what costs as much where there is more of it. */
function ofScale(name: string, size: number, goal: number, what: string, more: string, less: string): Other {
  const row = { ...scaling, name, size, goal };
  return { row, ours: `/tmp/scale ${what} ion:0 ${more}`, peer: `/tmp/scale ${what} ion:0 ${less}` };
}

const memory = { group: "The kernel's own memory of a buffer", where: 'guest' } as const;

function ofMemory(name: string, ours: string, peer: string, size: number, buffers: number): Other {
  const of = (heap: string) => `/tmp/scale memory ${heap} ${buffers} ${size}`;
  const row = { ...memory, name: `${name} kernel memory`, size, peerName: 'in-tree' };
  return { row, ours: of(ours), peer: of(peer), unit: 'bytes' };
}

/** Its row is what the processes of bench/scale.c wait for is looked at for, too. */
export const PROCESSES = 4;
const TOGETHER = `SYSTEM alloc + close, by ${PROCESSES} processes against 1`;

const others: Other[] = [
  ofScale('SYSTEM alloc, a MiB of 8 against one of 1', 8 << 20, 1.1, 'size', `${8 << 20} 16`, `${1 << 20} 64`),
  ofScale('SYSTEM alloc, a MiB of 64 against one of 1', 64 << 20, 1.1, 'size', `${64 << 20} 4`, `${1 << 20} 64`),
  ofScale('SYSTEM alloc, a MiB of 512 against one of 1', 512 << 20, 1.1, 'size', `${512 << 20} 2`, `${1 << 20} 64`),
  ofScale('SYSTEM alloc + close, beside 10,000 buffers against 10', 4096, 1.2, 'live', '10000 2000', '10 2000'),
  ofScale(TOGETHER, 4096, 1.1, 'processes', `${PROCESSES} 2000`, '1 2000'),
  ofMemory('SYSTEM', 'ion:0', 'dma_heap:system', 4096, 10000),
  // Too small for a block of 64 KiB: 15 pages.
  ofMemory('SYSTEM', 'ion:0', 'dma_heap:system', 60 << 10, 10000),
  ofMemory('DMA', 'ion:4', 'dma_heap:reserved', 4096, 10000),
  ofMemory('cma_mem', 'cma_mem', 'dma_heap:reserved', 4096, 10000),
  ofLibrary('alloc + map + touch + unmap + close', 1.1, `ion ${1 << 20} 100`),
  ofLibrary('bracket', 1.3, `bracket ${1 << 20} 2000`),
];

/** In this order they are shown, each by size. */
const names = pairs.flatMap((pair) => stepsOf(pair).map((step) => `${pair.name} ${step}`));

const rowsOf = ({ size, ...pair }: Job): Subject[] =>
  stepsOf(pair).map((step) => {
    const { group, name, peerName } = pair;
    const { most, from = 0, to = size } = pair.steps[step] ?? {};
    const goal = size >= from && size <= to ? most : undefined;
    return { group, name: `${name} ${step}`, size, peerName, ...(goal === undefined ? {} : { goal }), where: 'guest' };
  });

/** Everything the guest has to do for the rows that are wanted, the largest buffers first. */
function jobsFor(quick: boolean, wanted: (row: Subject) => boolean): Job[] {
  const chosen = sizes.flatMap(({ size, rounds, quick: few }) =>
    quick ? (few ? [{ size, rounds: few }] : []) : [{ size, rounds }],
  );
  return pairs
    .flatMap((pair) => chosen.map((size) => ({ ...pair, ...size })))
    .filter((job) => rowsOf(job).some(wanted))
    .reverse();
}

/** A step of a life that is wanted, on our heap and on the other. */
export interface Profiled extends Pick<Pair, 'ours' | 'peer' | 'peerName'> {
  name: string;
  step: Step;
  size: number;
}

/** Those of the rows that are steps of bench/heap.c. */
export function stepsWanted(wanted: (row: Subject) => boolean): Profiled[] {
  return pairs.flatMap((pair) =>
    sizes.flatMap(({ size }) => {
      const rows = rowsOf({ ...pair, size, rounds: 1 });
      return stepsOf(pair).flatMap((step, at) => {
        const row = rows[at] as Subject;
        const { ours, peer, peerName } = pair;
        return wanted(row) ? [{ ours, peer, peerName, name: row.name, step, size }] : [];
      });
    }),
  );
}

/** Whether the row of processes that allocate at the same time is wanted. */
export const togetherWanted = (wanted: (row: Subject) => boolean) =>
  others.some(({ row }) => row.name === TOGETHER && wanted(row));

/** Drives out of the contiguous memory what the kernel put there: else a first, small buffer is dearer. */
export const SWEEP = '/tmp/heap 33554432 4 cma_mem dma_heap:reserved >/dev/null';

/** What the guest runs: from memory, so that nothing is fetched from this machine meanwhile. */
function script(jobs: Job[], chosen: Other[]): string {
  const lines = [
    ...jobs.map(({ size, rounds, ours, peer }) => `/tmp/heap ${size} ${rounds} ${ours} ${peer}; echo =`),
    ...chosen.map(({ ours, peer }) => `echo other $(${ours}) $(${peer}); echo =`),
  ];
  const programs = 'cp /share/heap /share/scale /tmp';
  const begin = ['set -e', 'uname -r', 'modprobe vgem', programs, 'echo 3 >/proc/sys/vm/drop_caches'];
  return [...begin, SWEEP, ...lines, ''].join('\n');
}

/** Compiles bench/heap.c and bench/scale.c for the guest. */
export async function compileForGuest(arch: string, directory: string): Promise<Machine> {
  const machine = chooseMachine(arch, KERNEL);
  await requirePackages(toolsFor(machine));
  const flags = ['-static', '-O2', '-std=gnu11', '-D_FILE_OFFSET_BITS=64', '-Wall', '-Wextra', '-Werror'];
  const include = join(projectRoot, 'kernel-modules/include/uapi');
  for (const name of ['heap', 'scale']) {
    const source = join(projectRoot, `bench/${name}.c`);
    await run(`${machine.userland.gnu}-gcc`, [...flags, '-I', include, '-o', join(directory, name), source], {
      purpose: `compiling bench/${name}.c`,
    });
  }
  return machine;
}

/** Options of scripts/guest: where all of it is measured. */
export function benchGuest(arch: string, share: string): string[] {
  const options = { arch, kernel: KERNEL, mem: MEMORY_MIB, cma: CMA_MIB, timeout: TIMEOUT_S, share };
  return [
    ...['--icount', ...INSTRUCTION_NS],
    ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]),
    // All of them zero memory themselves: nobody is to do it a second time.
    ...['--append', 'init_on_alloc=0'],
  ];
}

/**
 * Measures the rows that are wanted; undefined where that is none.
 * @param directory for files of this run
 */
export async function measureInGuest(
  arch: string,
  quick: boolean,
  directory: string,
  wanted: (row: Subject) => boolean,
): Promise<{ guest: NonNullable<Results['guest']>; rows: Row[] } | undefined> {
  const jobs = jobsFor(quick, wanted);
  const chosen = others.filter(({ row }) => wanted(row));
  if (jobs.length + chosen.length === 0) return undefined;
  const machine = await compileForGuest(arch, directory);
  await compileHere(`${machine.userland.gnu}-gcc`, join(directory, 'here'), '-static', '-D_FILE_OFFSET_BITS=64');
  await writeFile(join(directory, 'run'), script(jobs, chosen));
  const titles = [...jobs, ...chosen.map(({ row }) => row)];
  const [release, ...times] = await inGuest(arch, directory, titles);
  const rows = jobs.flatMap((job, index) => {
    const measured = new Map(times[index]?.map(([step, ours, peer]) => [step, [Number(ours), Number(peer)] as const]));
    return rowsOf(job).map((row, at) => {
      const [ours, peer] = measured.get(stepsOf(job)[at]) ?? [];
      if (ours === undefined || peer === undefined) throw new Failure(`bench/heap.c said nothing of ${label(row)}`);
      return makeRow(row, ours, peer);
    });
  });
  const shown = rows.filter(wanted).sort((a, b) => {
    return names.indexOf(a.name) - names.indexOf(b.name) || (a.size ?? 0) - (b.size ?? 0);
  });
  for (const [index, { row, unit }] of chosen.entries()) {
    const [, ours, peer] = times[jobs.length + index]?.[0] ?? [];
    shown.push(makeRow(row, Number(ours), Number(peer), unit));
  }
  return { guest: { arch, kernel: release?.[0]?.[0] ?? '' }, rows: shown };
}

/** The words of each line, by job; before those of the first job what the kernel is called. */
async function inGuest(arch: string, share: string, jobs: { name: string; size: number }[]): Promise<string[][][]> {
  const child = start(join(projectRoot, 'scripts/guest'), [...benchGuest(arch, share), '--', 'sh', '/share/run'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const said: string[][][] = [[]];
  if (child.stdout) {
    eachLine(child.stdout, (line) => {
      if (said.length === 1 && said[0]?.length === 0) {
        said[0].push([line]);
        said.push([]);
      } else if (line === '=') {
        const done = jobs[said.length - 2] as (typeof jobs)[0];
        say(`  ${said.length - 1} of ${jobs.length} measured in the guest: ${done.name} ${sizeText(done.size)}`);
        said.push([]);
      } else {
        said.at(-1)?.push(line.split(' '));
      }
    });
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Failure(`the benchmarks in the guest failed (scripts/guest: exit code ${code})`);
  return said;
}
