// SPDX-License-Identifier: MIT
// Which lines and branches of the kernel modules ran, counted by gcov in any number of guests.
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Architecture } from './machines.ts';
import { projectRoot } from './project.ts';
import { run } from './run.ts';

const SOURCES = join(projectRoot, 'kernel-modules');

/** Of kernel-modules/: the core and the three modules. */
const FOLDERS = ['core', 'exporter', 'ion', 'cma_mem'];
const OURS = new RegExp(`/((?:${FOLDERS.join('|')}|include)/[\\w.-]+\\.[ch])$`);

export interface FileCoverage {
  /** Below kernel-modules/. */
  file: string;
  /** How often each line with code ran, by its number. */
  lines: Map<number, number>;
  /** How often each way out of each decision was taken, by line, function and place. */
  branches: Map<string, number>;
  /** The function each line is in. */
  functions: Map<number, string>;
}

/** What gcov --json-format says. */
interface Gcov {
  files: {
    file: string;
    lines: { line_number: number; function_name?: string; count: number; branches: { count: number }[] }[];
  }[];
}

/**
 * @param gcno a directory with FOLDER/NAME.gcno of each object
 * @param gcda directories with FOLDER/NAME.gcda, one for each guest; an object of which nothing was counted did not run
 */
export async function coverageOf(
  { gnu }: Architecture,
  gcno: string,
  gcda: string[],
): Promise<Map<string, FileCoverage>> {
  const all = new Map<string, FileCoverage>();
  for (const counts of gcda) {
    const work = await mkdtemp(join(tmpdir(), 'dmabuf-gcov-'));
    try {
      for (const from of [gcno, counts]) await cp(from, work, { recursive: true });
      for (const folder of FOLDERS) {
        const names = (await readdir(join(gcno, folder))).filter((name) => name.endsWith('.gcno'));
        for (const name of names) {
          const words = ['--json-format', '--stdout', '--branch-probabilities', join(work, folder, name)];
          const text = await run(`${gnu}-gcov`, words, {
            cwd: SOURCES,
            purpose: `reading what ran of ${folder}/${basename(name, '.gcno')}`,
          });
          // One object a line.
          for (const line of text.split('\n').filter(Boolean)) add(all, JSON.parse(line));
        }
      }
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  return new Map([...all].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function add(all: Map<string, FileCoverage>, gcov: Gcov): void {
  for (const { file: path, lines } of gcov.files) {
    const file = OURS.exec(`/${path}`)?.[1];
    if (file === undefined) continue;
    const one = all.get(file) ?? { file, lines: new Map(), branches: new Map(), functions: new Map() };
    all.set(file, one);
    for (const { line_number: line, function_name: name = '', count, branches } of lines) {
      one.lines.set(line, (one.lines.get(line) ?? 0) + count);
      one.functions.set(line, name);
      for (const [i, branch] of branches.entries()) {
        const key = `${line} ${name} ${i}`;
        one.branches.set(key, (one.branches.get(key) ?? 0) + branch.count);
      }
    }
  }
}

interface Share {
  all: number;
  reached: number;
}

function share(counts: Iterable<number>): Share {
  const list = [...counts];
  return { all: list.length, reached: list.filter((count) => count > 0).length };
}

const percent = ({ all, reached }: Share) => (all === 0 ? 0 : (100 * reached) / all);

/** A line that no test reaches, and why. It is found by its text, so that others may come before it. */
export interface Unreached {
  file: string;
  function: string;
  line: string;
  /** Which one of the function's lines with this text; the first if nothing is said. */
  nth?: number;
  /** Chance decides: that it was reached is no mistake. */
  sometimes?: true;
  reason: string;
}

export interface CoverageReport {
  rows: { file: string; lines: Share; branches: Share }[];
  all: { lines: Share; branches: Share };
  /** Lines not reached; reason: undefined where none is given. */
  left: { file: string; number: number; function: string; line: string; reason: string | undefined }[];
  /**
   * Lines that ran and have ways out that were never taken. An error's return has no code of its own in optimized
   * code, so that some of them show here only.
   */
  oneWay: { file: string; number: number; function: string; line: string; ways: Share }[];
  /** Reasons given for lines that are reached, or not there. */
  stale: Unreached[];
}

/** The ways out of each line that ran, where some were never taken. */
function oneWayLines({ file, lines, branches, functions }: FileCoverage, text: string[]): CoverageReport['oneWay'] {
  const counts = new Map<number, number[]>();
  for (const [key, count] of branches) {
    const number = Number.parseInt(key, 10);
    counts.set(number, [...(counts.get(number) ?? []), count]);
  }
  return [...counts]
    .sort(([a], [b]) => a - b)
    .map(([number, taken]) => ({
      file,
      number,
      function: functions.get(number) ?? '',
      line: text[number - 1]?.trim() ?? '',
      ways: share(taken),
    }))
    .filter(({ number, ways }) => (lines.get(number) ?? 0) > 0 && ways.reached < ways.all);
}

export async function report(coverage: Map<string, FileCoverage>, named: Unreached[]): Promise<CoverageReport> {
  const files = [...coverage.values()];
  const rows = files.map(({ file, lines, branches }) => ({
    file,
    lines: share(lines.values()),
    branches: share(branches.values()),
  }));
  const left: CoverageReport['left'] = [];
  const oneWay: CoverageReport['oneWay'] = [];
  const used = new Set<Unreached>();
  for (const one of files) {
    const { file, lines, functions } = one;
    const text = (await readFile(join(SOURCES, file), 'utf8')).split('\n');
    oneWay.push(...oneWayLines(one, text));
    const seen = new Map<string, number>();
    for (const [number, count] of [...lines].sort(([a], [b]) => a - b)) {
      const line = text[number - 1]?.trim() ?? '';
      const name = functions.get(number) ?? '';
      const nth = (seen.get(`${name} ${line}`) ?? 0) + 1;
      seen.set(`${name} ${line}`, nth);
      const known = named.find(
        (other) => other.file === file && other.function === name && other.line === line && (other.nth ?? 1) === nth,
      );
      if (known && (count === 0 || known.sometimes)) used.add(known);
      if (count === 0) left.push({ file, number, function: name, line, reason: known?.reason });
    }
  }
  const stale = named.filter((one) => !used.has(one));
  return {
    rows,
    all: {
      lines: share(files.flatMap(({ lines }) => [...lines.values()])),
      branches: share(files.flatMap(({ branches }) => [...branches.values()])),
    },
    left,
    oneWay,
    stale,
  };
}

/** For people: each file's share, and all files'. */
export function table({ rows, all }: CoverageReport): string {
  const cells = (name: string, lines: Share, branches: Share) =>
    [
      name.padEnd(26),
      ...[lines, branches].map(
        (one) => `${one.reached}/${one.all}`.padStart(11) + `${percent(one).toFixed(1)} %`.padStart(9),
      ),
    ].join('');
  return [
    `${'kernel-modules/'.padEnd(26)}${'lines'.padStart(20)}${'branches'.padStart(20)}`,
    ...rows.map(({ file, lines, branches }) => cells(file, lines, branches)),
    cells('together', all.lines, all.branches),
  ].join('\n');
}

/** The table, and the lines that did not run with the reason of each. */
export function shown(report: CoverageReport): string {
  const { left, oneWay, stale } = report;
  const text = [table(report)];
  if (left.length > 0) text.push('', 'lines not reached:');
  for (const one of left) {
    text.push(`  ${one.file}:${one.number} ${one.function}(): ${one.line}`, `    ${one.reason ?? 'NO REASON GIVEN'}`);
  }
  if (oneWay.length > 0) text.push('', 'ways out that were never taken, of lines that ran:');
  for (const { file, number, function: name, line, ways } of oneWay) {
    text.push(`  ${file}:${number} ${name}(): ${line} (${ways.all - ways.reached} of ${ways.all} never)`);
  }
  for (const one of stale) text.push(`  reached, or not there any more: ${one.file} ${one.function}(): ${one.line}`);
  return text.join('\n');
}

export const linesReached = ({ all }: CoverageReport) => percent(all.lines);
