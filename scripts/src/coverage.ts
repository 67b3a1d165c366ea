// SPDX-License-Identifier: MIT
// Which lines and branches of the kernel modules ran, counted by gcov in any number of guests.
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Failure } from './failure.ts';
import type { Architecture } from './machines.ts';
import { projectRoot } from './project.ts';
import { run } from './run.ts';

const SOURCES = join(projectRoot, 'kernel-modules');

/** Files of kernel-modules/ that are no test of their own. */
const OURS = /\/((?:core|exporter|ion|cma_mem|include)\/[\w.-]+\.[ch])$/;

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
 * @param gcda directories with FOLDER/NAME.gcda, one for each guest
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
      for (const folder of await readdir(counts)) {
        for (const name of await readdir(join(counts, folder))) {
          const words = ['--json-format', '--stdout', '--branch-probabilities', join(work, folder, name)];
          const text = await run(`${gnu}-gcov`, words, {
            cwd: SOURCES,
            purpose: `reading what ran of ${folder}/${basename(name, '.gcda')}`,
          });
          // One object a line.
          for (const line of text.split('\n').filter(Boolean)) add(all, JSON.parse(line));
        }
      }
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  if (all.size === 0) throw new Failure('the guests counted no line of the modules');
  return new Map([...all].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function add(all: Map<string, FileCoverage>, gcov: Gcov): void {
  for (const { file: path, lines } of gcov.files) {
    const file = OURS.exec(`/${path}`)?.[1];
    // Kernel headers have folders of such names, too; nothing of kernel-modules/include/uapi is code.
    if (file === undefined || /\/include\/(linux|asm|uapi|generated)\//.test(path)) continue;
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

const percent = ({ all, reached }: Share) => (all === 0 ? 100 : (100 * reached) / all);

/** A line that no test reaches, and why. It is found by its text, so that others may come before it. */
export interface Unreached {
  file: string;
  function: string;
  line: string;
  /** Chance decides: that it was reached is no mistake. */
  sometimes?: true;
  reason: string;
}

export interface CoverageReport {
  rows: { file: string; lines: Share; branches: Share }[];
  all: { lines: Share; branches: Share };
  /** Lines not reached; reason: undefined where none is given. */
  left: { file: string; number: number; function: string; line: string; reason: string | undefined }[];
  /** Reasons given for lines that are reached, or not there. */
  stale: Unreached[];
}

export async function report(coverage: Map<string, FileCoverage>, named: Unreached[]): Promise<CoverageReport> {
  const files = [...coverage.values()];
  const rows = files.map(({ file, lines, branches }) => ({
    file,
    lines: share(lines.values()),
    branches: share(branches.values()),
  }));
  const left: CoverageReport['left'] = [];
  for (const { file, lines, functions } of files) {
    const text = (await readFile(join(SOURCES, file), 'utf8')).split('\n');
    for (const [number, count] of [...lines].sort(([a], [b]) => a - b)) {
      if (count > 0) continue;
      const line = text[number - 1]?.trim() ?? '';
      const name = functions.get(number) ?? '';
      const known = named.find((one) => one.file === file && one.function === name && one.line === line);
      left.push({ file, number, function: name, line, reason: known?.reason });
    }
  }
  const stale = named.filter(
    (one) =>
      !one.sometimes &&
      !left.some(({ file, function: name, line }) => one.file === file && one.function === name && one.line === line),
  );
  return {
    rows,
    all: {
      lines: share(files.flatMap(({ lines }) => [...lines.values()])),
      branches: share(files.flatMap(({ branches }) => [...branches.values()])),
    },
    left,
    stale,
  };
}

/** As a table for people. */
export function shown({ rows, all, left, stale }: CoverageReport): string {
  const cells = (name: string, lines: Share, branches: Share) =>
    [
      name.padEnd(26),
      ...[lines, branches].map(
        (one) => `${one.reached}/${one.all}`.padStart(11) + `${percent(one).toFixed(1)} %`.padStart(9),
      ),
    ].join('');
  const text = [
    `${'kernel-modules/'.padEnd(26)}${'lines'.padStart(20)}${'branches'.padStart(20)}`,
    ...rows.map(({ file, lines, branches }) => cells(file, lines, branches)),
    cells('together', all.lines, all.branches),
  ];
  if (left.length > 0) text.push('', 'lines not reached:');
  for (const one of left) {
    text.push(`  ${one.file}:${one.number} ${one.function}(): ${one.line}`, `    ${one.reason ?? 'NO REASON GIVEN'}`);
  }
  for (const one of stale) text.push(`  reached, or not there any more: ${one.file} ${one.function}(): ${one.line}`);
  return text.join('\n');
}

export const linesReached = ({ all }: CoverageReport) => percent(all.lines);
