// SPDX-License-Identifier: MIT
// npm run bench: how fast our heaps are against the kernel's own, and the library against C.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureCamera } from './bench-camera.ts';
import { measureInGuest } from './bench-guest.ts';
import { measureHere } from './bench-here.ts';
import { locksInGuest } from './bench-locks.ts';
import { picture } from './bench-picture.ts';
import { profileInGuest } from './bench-profile.ts';
import { type Comparison, compare, label, markdown, type Results, type Row, readResults } from './bench-results.ts';
import { Failure } from './failure.ts';
import { chooseMachine } from './machines.ts';
import { say } from './progress.ts';
import { projectRoot } from './project.ts';
import { runMain } from './run.ts';

const usage = `usage: npm run bench [-- OPTION…]

Times our heaps against the kernel's own in a guest (kernel lab, --icount), and the library against C on this
machine. Prints tables (Markdown), and leaves results.json and a picture, results.svg, in bench/.

  --arch NAME           armhf | arm64: the guest (default armhf)
  --quick               fewer sizes and rounds: less than a minute, where a full run takes two to four
  --only PATTERN        the rows whose "guest|here NAME SIZE" matches, as in --only 'guest system (alloc|mmap)'
  --profile             instead of times the instructions of each step in the guest, by function, and the locks that
                        the row of 4 processes waits for: with --only, as in --profile --only 'system mmap 8 mib';
                        prints tables, leaves no file
  --compare FILE        prints the ratios beside those of an earlier results.json, with the difference
  --fail-above PERCENT  with --compare: ends with 1 if a ratio in the guest rose by more
  --out DIR             where results.json and results.svg go (default bench)
  --json                standard output is results.json; the comparison goes to standard error
  --write-docs          puts the tables and the picture into docs/performance.md too
  --help                this

exit codes: 0; 1 for --fail-above; 125 where something failed.
`;

interface Options {
  arch: string;
  quick: boolean;
  only: RegExp | undefined;
  compare: string | undefined;
  failAbove: number;
  out: string;
  json: boolean;
  writeDocs: boolean;
  profile: boolean;
}

/** undefined: help was asked for. @throws Failure naming the option that is wrong */
function parseOptions(args: string[]): Options | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const { compare, 'fail-above': failAbove, only, quick = false, 'write-docs': writeDocs = false } = values;
  if (failAbove !== undefined && compare === undefined) throw new Failure('--fail-above needs --compare FILE');
  if (failAbove !== undefined && !/^\d+(\.\d+)?$/.test(failAbove)) {
    throw new Failure(`--fail-above ${failAbove}: a number of percent is expected`);
  }
  if (writeDocs && (quick || only !== undefined)) throw new Failure('--write-docs is for a full run');
  const { profile = false } = values;
  if (profile && only === undefined) throw new Failure('--profile needs --only PATTERN: a step takes it a minute');
  const others = ['compare', 'fail-above', 'json', 'out', 'quick', 'write-docs'] as const;
  const other = others.find((name) => values[name] !== undefined);
  if (profile && other) throw new Failure(`--profile and --${other}: a profile is no measurement`);
  return {
    arch: values.arch ?? 'armhf',
    profile,
    quick,
    only: only === undefined ? undefined : pattern(only),
    compare,
    failAbove: failAbove === undefined ? Number.POSITIVE_INFINITY : Number(failAbove),
    out: values.out ?? join(projectRoot, 'bench'),
    json: values.json ?? false,
    writeDocs,
  };
}

function parse(args: string[]) {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  const options = {
    arch: text,
    compare: text,
    'fail-above': text,
    help: { ...flag, short: 'h' },
    json: flag,
    only: text,
    out: text,
    profile: flag,
    quick: flag,
    'write-docs': flag,
  } as const;
  try {
    return parseArgs({ args, options }).values;
  } catch (error) {
    throw new Failure(`${(error as Error).message.split(/\.\s/)[0]}. npm run bench -- --help shows what there is.`);
  }
}

function pattern(text: string): RegExp {
  try {
    return new RegExp(text, 'i');
  } catch {
    throw new Failure(`--only ${text}: not a regular expression`);
  }
}

function commit(): string | undefined {
  const args = ['--no-optional-locks', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude', '*'];
  const { status, stdout } = spawnSync('git', args, { cwd: projectRoot, encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

const wantedBy =
  ({ only }: Options) =>
  (row: Pick<Row, 'where' | 'name' | 'size'>) =>
    only?.test(`${row.where} ${label(row)}`) ?? true;

async function measure(options: Options, directory: string): Promise<Results> {
  const { arch, quick, only } = options;
  const wanted = wantedBy(options);
  const here = await measureHere(quick, directory, wanted);
  const guest = await measureInGuest(arch, quick, directory, wanted);
  const camera = await measureCamera(arch, quick, directory, wanted);
  const results = [...(guest?.rows ?? []), ...(camera?.rows ?? []), ...(here?.rows ?? [])];
  if (results.length === 0)
    throw new Failure(`--only ${only?.source}: no row ${quick ? 'of a quick run ' : ''}matches`);
  const made = commit();
  const where = guest?.guest ?? camera?.guest;
  return {
    ...(made === undefined ? {} : { commit: made }),
    quick,
    ...(where && { guest: where }),
    ...(here && { here: here.here }),
    results,
  };
}

/** @returns tables, in Markdown */
async function profile(options: Options, directory: string): Promise<string> {
  const arguments_ = [options.arch, directory, wantedBy(options)] as const;
  const tables = [await profileInGuest(...arguments_), await locksInGuest(...arguments_)];
  const found = tables.filter((table) => table !== undefined);
  if (found.length === 0) {
    throw new Failure('--profile: --only matches no step of a heap in the guest, and not the row of 4 processes');
  }
  return found.join('\n\n');
}

/** Whole or not at all. */
async function replace(file: string, content: string): Promise<void> {
  const part = `${file}.${process.pid}.part`;
  try {
    await writeFile(part, content);
    await rename(part, file);
  } finally {
    await rm(part, { force: true });
  }
}

const BEGIN = '<!-- what npm run bench -- --write-docs prints -->';
const END = '<!-- to here -->';

async function writeDocs(results: Results): Promise<void> {
  const file = join(projectRoot, 'docs/performance.md');
  const page = await readFile(file, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Failure(`${file} has no place for the tables: ${BEGIN} and ${END}`);
  await replace(file, `${page.slice(0, begin)}${BEGIN}\n${markdown(results)}\n${page.slice(end)}`);
  await replace(join(projectRoot, 'docs/performance.svg'), picture(results.results));
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (!options) {
    process.stdout.write(usage);
    return 0;
  }
  // What is wrong is said before the long work.
  chooseMachine(options.arch, 'lab');
  const then = options.compare === undefined ? undefined : await readResults(options.compare);
  if (then?.guest && then.guest.arch !== options.arch) {
    throw new Failure(
      `--compare ${options.compare}: measured on ${then.guest.arch}, and this run is on ${options.arch}`,
    );
  }
  if (!statSync(options.out, { throwIfNoEntry: false })?.isDirectory()) {
    throw new Failure(`--out ${options.out}: there is no such directory`);
  }
  if (then && then.quick !== options.quick) say('bench: a quick run and a full one: small contiguous buffers differ');
  const directory = await mkdtemp(join(tmpdir(), 'dmabuf-bench-'));
  let results: Results;
  try {
    if (options.profile) {
      console.log(await profile(options, directory));
      return 0;
    }
    results = await measure(options, directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  const json = `${JSON.stringify(results, undefined, 2)}\n`;
  await replace(join(options.out, 'results.svg'), picture(results.results));
  await replace(join(options.out, 'results.json'), json);
  if (options.writeDocs) await writeDocs(results);
  process.stdout.write(options.json ? json : `${markdown(results)}\n`);
  const comparison = then && compare(results, then);
  if (comparison) show(comparison, options);
  return comparison && comparison.largestRise > options.failAbove ? 1 : 0;
}

function show({ markdown, largestRise }: Comparison, { compare, json, failAbove }: Options): void {
  const to = json ? process.stderr : process.stdout;
  to.write(`\n### Against ${compare}\n\n${markdown}\n`);
  if (largestRise > failAbove)
    say(`a ratio in the guest rose by ${largestRise.toFixed(2)} %, more than ${failAbove} %`);
}

runMain('bench', main);
