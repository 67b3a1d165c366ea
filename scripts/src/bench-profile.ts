// SPDX-License-Identifier: MIT
// Where the instructions of a step go, by function: QEMU logs each one that the guest executes meanwhile.
import { createReadStream } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Counts, ranked } from './bench-counts.ts';
import { benchGuest, compileForGuest, type Profiled, SWEEP, stepsWanted } from './bench-guest.ts';
import { digits, label, type Subject } from './bench-results.ts';
import { Failure } from './failure.ts';
import { say } from './progress.ts';
import { projectRoot } from './project.ts';
import { eachLine, start } from './run.ts';

const PAGE = 4096;
/** Of all instructions of either, what a function needs for a line of its own. */
const WORTH_SHOWING = 0.02;
const PROGRAM = '(the program)';
const PROMPT = '(qemu) ';

/** QEMU's monitor, which is asked one thing after the other. */
class Monitor {
  readonly #socket: Socket;
  #heard = '';
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('latin1').on('data', (data) => {
      this.#heard += data;
      this.#wake();
    });
    // Whoever waits is told by the guest's end.
    socket.on('error', () => {});
  }

  static async open(path: string): Promise<Monitor> {
    const socket = connect(path);
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    const monitor = new Monitor(socket);
    await monitor.#prompt();
    return monitor;
  }

  async #prompt(): Promise<void> {
    while (!this.#heard.endsWith(PROMPT)) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async ask(command: string): Promise<void> {
    this.#heard = '';
    this.#socket.write(`${command}\n`);
    await this.#prompt();
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** The functions of the guest's kernel by address, in hexadecimal digits of one width. */
async function symbols(file: string): Promise<{ addresses: string[]; names: string[] }> {
  const lines = (await readFile(file, 'latin1')).split('\n').map((line) => line.split(/\s+/));
  const code = lines.filter(([, type = '', name = '']) => /^[tw]$/i.test(type) && !name.startsWith('$'));
  code.sort(([a = ''], [b = '']) => (a < b ? -1 : a > b ? 1 : 0));
  return { addresses: code.map(([address = '']) => address), names: code.map(([, , name = '']) => name) };
}

/** The last address that is not greater. */
function lastUpTo(addresses: readonly string[], address: string): number {
  let [low, high] = [0, addresses.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((addresses[middle] as string) <= address) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Counts what was executed between two addresses of the program. */
async function count(log: string, kallsyms: string, begin: string, end: string): Promise<Counts> {
  const { addresses, names } = await symbols(kallsyms);
  const width = addresses[0]?.length ?? 0;
  const [first, last] = [begin.padStart(width, '0'), end.padStart(width, '0')];
  const functions = new Map<string, string>();
  const counts: Counts = new Map();
  let state: 'before' | 'between' | 'after' = 'before';
  for await (const line of createInterface({ input: createReadStream(log, 'latin1') })) {
    const address = /\[[0-9a-f]+\/([0-9a-f]+)\//.exec(line)?.[1];
    if (address === undefined) continue;
    if (state === 'before' && address === first) state = 'between';
    if (state === 'between' && address === last) state = 'after';
    if (state !== 'between') continue;
    let name = functions.get(address);
    if (name === undefined) {
      name = names[lastUpTo(addresses, address)] ?? PROGRAM;
      functions.set(address, name);
    }
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  if (state !== 'after') throw new Failure(`the log of the guest's instructions does not hold all of the step: ${log}`);
  return counts;
}

function table({ peerName, size, ...row }: Profiled, ours: Counts, peer: Counts): string {
  const pages = size / PAGE;
  const { shown, rest, others, all } = ranked([ours, peer], (counts, sums) => {
    return counts.some((one, i) => one >= WORTH_SHOWING * (sums[i] as number));
  });
  const line = (name: string, counts: readonly number[]) =>
    `| ${[name, ...counts.map((one) => (one === 0 ? '' : digits(one / pages)))].join(' | ')} |`;
  return [
    `**${label({ ...row, size })}**, instructions a page`,
    '',
    `| | ours | ${peerName} |`,
    '| --- | ---: | ---: |',
    ...shown.map(({ name, counts }) => line(name === PROGRAM ? name : `\`${name}\``, counts)),
    line(`${others} others`, rest),
    line('all', all),
  ].join('\n');
}

/**
 * Profiles the steps that are wanted, each once on each heap.
 * @returns a table for each, in Markdown; undefined where that is none
 */
export async function profileInGuest(
  arch: string,
  directory: string,
  wanted: (row: Subject) => boolean,
): Promise<string | undefined> {
  const rows = stepsWanted(wanted);
  if (rows.length === 0) return undefined;
  await compileForGuest(arch, directory);
  const runs = rows.flatMap((row) => [row.ours, row.peer].map((heap) => ({ row, heap })));
  const lives = runs.map(({ row, heap }) => `/tmp/heap profile ${row.step} ${row.size} ${heap}`);
  const begin = ['set -e', 'modprobe vgem', 'cp /share/heap /tmp', 'cat /proc/kallsyms >/share/kallsyms', SWEEP];
  await writeFile(join(directory, 'run'), [...begin, ...lives, ''].join('\n'));
  const [path, log, kallsyms] = ['monitor', 'log', 'kallsyms'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  const qemu = ['-D', log, '-monitor', `unix:${path},server=on,wait=off`];
  const child = start(
    join(projectRoot, 'scripts/guest'),
    [...benchGuest(arch, directory), ...qemu.flatMap((word) => ['--qemu-arg', word]), '--', 'sh', '/share/run'],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const counted: Counts[] = [];
  let monitor: Monitor | undefined;
  let ends: string[] = [];
  const answer = async (line: string) => {
    const [word, ...addresses] = line.split(' ');
    if (word === 'begin') {
      ends = addresses;
      monitor ??= await Monitor.open(path);
      // Each instruction is a block of its own, and has its line.
      await monitor.ask('singlestep on');
      await monitor.ask('log exec,nochain');
    } else if (word === 'end') {
      await monitor?.ask('log none');
      await monitor?.ask('singlestep off');
      const [first = '', last = ''] = ends;
      counted.push(await count(log, kallsyms, first, last));
      // QEMU begins another one.
      await rm(log, { force: true });
      await monitor?.ask(`logfile ${log}`);
      const { row, heap } = runs[counted.length - 1] as (typeof runs)[0];
      say(`  ${counted.length} of ${runs.length} profiled in the guest: ${label(row)}, ${heap}`);
    } else throw new Failure(`bench/heap.c said ${line}`);
    child.stdin?.write('\n');
  };
  let work = Promise.resolve();
  const code = await new Promise<number | null>((resolve, reject) => {
    if (child.stdout) {
      eachLine(child.stdout, (line) => {
        work = work.then(() => answer(line));
        work.catch((error) => {
          child.kill();
          reject(error);
        });
      });
    }
    child.on('error', reject);
    child.on('close', resolve);
  }).finally(() => monitor?.close());
  if (code !== 0) throw new Failure(`the profile in the guest failed (scripts/guest: exit code ${code})`);
  return rows.map((row, i) => table(row, counted[2 * i] as Counts, counted[2 * i + 1] as Counts)).join('\n\n');
}
