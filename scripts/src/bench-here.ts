// SPDX-License-Identifier: MIT
// The library against C on this machine, and against koffi: two programs that do the same, in turns.
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { makeRow, type Results, type Row, type Subject } from './bench-results.ts';
import { buildHere } from './build-here.ts';
import { Failure } from './failure.ts';
import { requirePackages } from './host.ts';
import { step } from './progress.ts';
import { projectRoot } from './project.ts';
import { run, start, stop } from './run.ts';

const ROUNDS = 40;
const QUICK_ROUNDS = 12;
/** The first of them: code is compiled as it gets hot. */
const WARM_UP = 4;

/** A row, and what both programs are told to do for it, how often in a batch. */
interface Job {
  row: Subject;
  line: string;
  /** where the peer is told something else */
  peerLine?: string;
}

const mapping = { group: 'Mapping, on this machine', name: 'map + close', peerName: 'C', where: 'here' } as const;
const passing = { group: 'Passing descriptors, on this machine', peerName: 'C', where: 'here' } as const;

const life = { name: 'alloc + map + touch + unmap + close', size: 4 << 10, where: 'here' } as const;
/** 1080p, RGBA */
const frame = {
  group: 'A frame to another process, on this machine',
  size: 1920 * 1080 * 4,
  peerName: 'process.send',
  where: 'here',
} as const;
const contents = { group: 'Bytes of a mapping, on this machine', peerName: 'C', where: 'here', goal: 1.05 } as const;

/** So often that a batch has several garbage collections. */
const jobs: Job[] = [
  ...[
    { size: 4 << 10, count: 2000 },
    { size: 1 << 20, count: 1000 },
    { size: 8 << 20, count: 1000 },
    { size: 32 << 20, count: 500 },
  ].map(({ size, count }) => ({ row: { ...mapping, size }, line: `map ${size} ${count}` })),
  { row: { ...life, group: 'A buffer of memfd, on this machine', peerName: 'C', goal: 1.5 }, line: 'life 4096 1000' },
  {
    row: {
      ...{ ...life, name: `${life.name}, against koffi` },
      ...{ group: 'A buffer of memfd, on this machine, against koffi', peerName: 'koffi', goal: 1 },
    },
    line: 'life 4096 1000',
  },
  ...[1 << 20, 8 << 20].flatMap((size) =>
    ['fill', 'copy'].map((name) => ({
      row: { ...contents, name, size },
      line: `${name} ${size} ${(256 << 20) / size}`,
    })),
  ),
  { row: { ...passing, name: 'round trip of 1 descriptor' }, line: 'pass 1 300' },
  { row: { ...passing, name: 'round trip of 8 descriptors' }, line: 'pass 8 150' },
  { row: { ...passing, name: 'round trip of 1 descriptor to another process', goal: 3 }, line: 'trip 1 300' },
  {
    row: { ...frame, name: 'handed over, and answered', goal: 0.005 },
    line: `frame ${frame.size} 100`,
    peerLine: `frame ${frame.size} 3`,
  },
  {
    row: { ...frame, name: 'lent by a pool, mapped and looked at, given back' },
    line: `lend ${frame.size} 100`,
    peerLine: `frame ${frame.size} 3`,
  },
  {
    row: {
      ...{ group: 'Messages that wait, on this machine', where: 'here', name: 'one of 10,000 messages' },
      ...{ peerName: 'one of 10', goal: 1 },
    },
    line: 'queue 10000 1',
    peerLine: 'queue 10 1000',
  },
];

/** A program that answers each line with one number. */
class Partner {
  readonly #child;
  readonly #answers: AsyncIterator<string>;

  constructor(
    readonly name: string,
    program: string,
    args: string[],
  ) {
    this.#child = start(program, args, { cwd: projectRoot, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.on('error', () => {});
    this.#child.stdin?.on('error', () => {});
    this.#answers = createInterface({ input: this.#child.stdout as Readable })[Symbol.asyncIterator]();
  }

  /** Nanoseconds of one time. */
  async ask(line: string): Promise<number> {
    (this.#child.stdin as Writable).write(`${line}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new Failure(`${this.name} ended instead of answering "${line}"`);
    return Number(value);
  }

  end(): void {
    stop(this.#child, 'SIGTERM');
  }
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? (sorted[half] as number) : ((sorted[half - 1] as number) + (sorted[half] as number)) / 2;
}

/** Makes a program of bench/here.c. */
export async function compileHere(compiler: string, program: string, ...flags: string[]): Promise<void> {
  const include = join(projectRoot, 'kernel-modules/include/uapi');
  const all = [...flags, '-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-I', include, '-o', program];
  await run(compiler, [...all, join(projectRoot, 'bench/here.c')], { purpose: 'compiling bench/here.c' });
}

/** Measures the rows that are wanted; undefined where that is none. */
export async function measureHere(
  quick: boolean,
  directory: string,
  wanted: (row: Subject) => boolean,
): Promise<{ here: NonNullable<Results['here']>; rows: Row[] } | undefined> {
  const chosen = jobs.filter(({ row }) => wanted(row));
  if (chosen.length === 0) return undefined;
  await buildHere();
  await requirePackages(['gcc', 'libc6-dev']);
  const program = join(directory, 'here');
  await compileHere('gcc', program);
  const tsx = join(projectRoot, 'node_modules/tsx/dist/loader.mjs');
  const script = (name: string) => new Partner(name, process.execPath, ['--no-warnings', '--import', tsx, name]);
  const ours = script('bench/here.ts');
  const peers: Record<string, Partner> = {
    C: new Partner('bench/here.c', program, []),
    koffi: script('bench/koffi.ts'),
    'process.send': script('bench/process-send.ts'),
    'one of 10': script('bench/here.ts'),
  };
  const rounds = quick ? QUICK_ROUNDS : ROUNDS;
  try {
    const rows = await step('measuring on this machine', async ({ progress }) => {
      const rows: Row[] = [];
      for (const { row, line, peerLine = line } of chosen) {
        const peer = peers[row.peerName] as Partner;
        const [oursNs, peerNs] = await inTurns(ours, line, peer, peerLine, rounds);
        rows.push(makeRow(row, oursNs, peerNs));
        progress(rows.length / chosen.length);
      }
      return rows;
    });
    return { here: { arch: process.arch, node: process.version }, rows };
  } finally {
    for (const partner of [ours, ...Object.values(peers)]) partner.end();
  }
}

async function inTurns(
  ours: Partner,
  line: string,
  peer: Partner,
  peerLine: string,
  rounds: number,
): Promise<[number, number]> {
  const times: [number[], number[]] = [[], []];
  for (let round = -WARM_UP; round < rounds; round++) {
    const oursNs = await ours.ask(line);
    const peerNs = await peer.ask(peerLine);
    if (round < 0) continue;
    times[0].push(oursNs);
    times[1].push(peerNs);
  }
  return [median(times[0]), median(times[1])];
}
