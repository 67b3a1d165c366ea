// SPDX-License-Identifier: MIT
// What a run of the benchmarks finds: bench/results.json, as tables, and against an earlier run.
import { readFile } from 'node:fs/promises';
import { Failure } from './failure.ts';

export type Where = 'guest' | 'here';

export type Unit = 'µs' | 'bytes';

/** One thing measured, ours and theirs. */
export interface Row {
  /** Which table it belongs to. */
  group: string;
  name: string;
  /** Bytes. */
  size?: number;
  /** Of one, in `unit`. */
  ours: number;
  peer: number;
  peerName: string;
  unit: Unit;
  /** ours / peer: lower is better. */
  ratio: number;
  /** What the ratio is to be at most. */
  goal?: number;
  where: Where;
}

/** A row before it is measured. */
export type Subject = Omit<Row, 'ours' | 'peer' | 'unit' | 'ratio'>;

export interface Results {
  /** Of the project; absent where that is no clone. */
  commit?: string;
  quick: boolean;
  guest?: { arch: string; kernel: string };
  here?: { arch: string; node: string };
  results: Row[];
}

/** A row from times in nanoseconds, or from bytes. */
export function makeRow(of: Subject, ours: number, peer: number, unit: Unit = 'µs'): Row {
  if (!(ours > 0 && peer > 0)) throw new Failure(`${label(of)}: measured ${ours} and ${peer}`);
  const scale = unit === 'µs' ? 1000 : 1;
  const { group, name, size, peerName, goal, where } = of;
  return {
    group,
    name,
    ...(size === undefined ? {} : { size }),
    ours: Number((ours / scale).toFixed(4)),
    peer: Number((peer / scale).toFixed(4)),
    peerName,
    unit,
    ratio: Number((ours / peer).toPrecision(5)),
    ...(goal === undefined ? {} : { goal }),
    where,
  };
}

export function sizeText(bytes: number | undefined): string {
  if (bytes === undefined) return '';
  return bytes < 2 ** 20 ? `${bytes / 2 ** 10} KiB` : `${bytes / 2 ** 20} MiB`;
}

export const label = ({ name, size }: Pick<Row, 'name' | 'size'>) => `${name} ${sizeText(size)}`.trim();

/** Rows by their group, in the order they came. */
export function grouped(rows: Row[]): Map<string, Row[]> {
  const groups = new Map<string, Row[]>();
  for (const row of rows) groups.set(row.group, [...(groups.get(row.group) ?? []), row]);
  return groups;
}

/** Three digits say enough. */
export const digits = (value: number) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  // All but the name are numbers.
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n');
}

/** What was measured on what, and a table a group. */
export function markdown({ guest, here, quick, results }: Results): string {
  const on = [
    ...(guest ? [`guest: ${guest.arch}, kernel ${guest.kernel}, instruction time`] : []),
    ...(here ? [`this machine: ${here.arch}, Node.js ${here.node}`] : []),
    ...(quick ? ['quick run'] : []),
  ];
  const tables = [...grouped(results)].map(([group, rows]) => {
    const { peerName, unit } = rows[0] as Row;
    const sizes = rows.some(({ size }) => size !== undefined);
    const goals = rows.some(({ goal }) => goal !== undefined);
    const line = (name: string, size: string, ours: string, peer: string, ratio: string, goal: string) => [
      name,
      ...(sizes ? [size] : []),
      ...[ours, peer, ratio],
      ...(goals ? [goal] : []),
    ];
    const head = line('', 'size', `ours, ${unit}`, `${peerName}, ${unit}`, 'ratio', 'goal');
    const cells = rows.map(({ name, size, ours, peer, ratio, goal }) =>
      line(name, sizeText(size), digits(ours), digits(peer), digits(ratio), goal === undefined ? '' : `≤ ${goal}`),
    );
    return `### ${group}\n\n${table(head, cells)}`;
  });
  return [`${on.join('; ')}.`.replace(/^./, (c) => c.toUpperCase()), ...tables].join('\n\n');
}

/** An earlier bench/results.json. @throws Failure if the file is none */
export async function readResults(file: string): Promise<Results> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Failure(`--compare ${file}: ${error.code === 'ENOENT' ? 'there is no such file' : error.message}`);
  });
  const none = new Failure(`--compare ${file}: not the results.json of a run of the benchmarks`);
  let read: Partial<Results> | null;
  try {
    read = JSON.parse(text);
  } catch {
    throw none;
  }
  const isRow = (row: Partial<Row> | null) =>
    typeof row?.name === 'string' && typeof row.ratio === 'number' && row.ratio > 0;
  if (!Array.isArray(read?.results) || !read.results.every(isRow)) throw none;
  return read as Results;
}

export interface Comparison {
  markdown: string;
  /** Of a ratio in the guest, in percent; 0 where none rose. */
  largestRise: number;
}

/** The rows of a run beside the same rows of an earlier one. */
export function compare(now: Results, then: Results): Comparison {
  const before = new Map(then.results.map((row) => [label(row), row]));
  const pairs = now.results.map((row) => {
    const old = before.get(label(row));
    return { row, old, percent: old && (row.ratio / old.ratio - 1) * 100 };
  });
  const signed = (percent: number) => `${percent < 0 ? '−' : '+'}${Math.abs(percent).toFixed(2)} %`;
  const cells = pairs.map(({ row, old, percent }) => [
    row.name,
    sizeText(row.size),
    row.where,
    old ? digits(old.ratio) : 'new',
    digits(row.ratio),
    percent === undefined ? '' : signed(percent),
  ]);
  const said = (['guest', 'here'] as const).flatMap((where) => {
    const both = pairs.filter(({ row, old }) => row.where === where && old);
    const most = both.sort((a, b) => Math.abs(b.percent ?? 0) - Math.abs(a.percent ?? 0))[0];
    if (most?.percent === undefined) return [];
    return [`Largest difference of ${both.length} ratios ${where}: ${signed(most.percent)} (${label(most.row)}).`];
  });
  const rises = pairs.flatMap(({ row, percent }) => (row.where === 'guest' ? [percent ?? 0] : []));
  return {
    markdown: [table(['', 'size', 'where', 'ratio then', 'now', 'difference'], cells), ...said].join('\n\n'),
    largestRise: Math.max(0, ...rises),
  };
}
