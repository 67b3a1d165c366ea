// SPDX-License-Identifier: MIT
// What processes that allocate at the same time wait for: the kernel says so of each lock (lock:contention_begin).
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Counts, ranked } from './bench-counts.ts';
import { compileForGuest, KERNEL, PROCESSES, togetherWanted } from './bench-guest.ts';
import { digits, type Subject } from './bench-results.ts';
import { Failure } from './failure.ts';
import { say } from './progress.ts';
import { projectRoot } from './project.ts';
import { run } from './run.ts';

const HEAPS = [
  { heap: 'ion:0', name: 'ours' },
  { heap: 'dma_heap:system', name: 'in-tree system' },
] as const;
/** Of each process. */
const ROUNDS = 10_000;
const TRACE_KIB = 16_384;
/** Of those that called whoever waits. */
const CALLERS = 3;
/** Rarer waits share a line. */
const WORTH_SHOWING = 0.02;
/** The locks' own functions, which each stack begins with. */
const OF_LOCKS =
  /^(__|do_|_)*(traceiter|trace_|mutex_|raw_|rwsem_|down|up_|percpu_|rt_|queued_|native_|spin_|osq_|stack_trace|ftrace_)/;

const guestScript = () => `
set -e
cp /share/scale /tmp
cd /sys/kernel/tracing
echo ${TRACE_KIB} >buffer_size_kb
echo 1 >options/stacktrace
echo 'comm == "scale"' >events/lock/contention_begin/filter
${HEAPS.map(
  ({ heap }, i) => `: >trace
echo 1 >events/lock/contention_begin/enable
/tmp/scale processes ${heap} ${PROCESSES} ${ROUNDS} >/dev/null
echo 0 >events/lock/contention_begin/enable
cat trace >/share/trace.${i}
grep -h '^overrun:' per_cpu/cpu*/stats >/share/overrun.${i}`,
).join('\n')}
`;

/** How often they waited where: what was called by what, and the kind of lock. */
function waits(trace: string): Counts {
  const counts: Counts = new Map();
  // An event's line, and its stack.
  for (const event of trace.split(/^(?=.*contention_begin: )/m).slice(1)) {
    // "SPIN|MUTEX" is a mutex whose owner runs.
    const flags = /\(flags=([^)]*)\)/.exec(event)?.[1] ?? '';
    const kind = flags.split('|').at(-1)?.toLowerCase() || 'rwsem';
    const stack = [...event.matchAll(/^ => (\w+)/gm)].map(([, name = '']) => name);
    const callers = stack.slice(stack.findIndex((name) => !OF_LOCKS.test(name))).slice(0, CALLERS);
    const where = `${callers.map((name) => `\`${name}\``).join(' ← ') || '(unknown)'} | ${kind}`;
    counts.set(where, (counts.get(where) ?? 0) + 1);
  }
  return counts;
}

function table(counts: Counts[]): string {
  const { shown, rest, others, all } = ranked(counts, (times, sums) => {
    return Math.max(...times) >= WORTH_SHOWING * Math.max(...sums);
  });
  const line = (where: string, times: readonly number[]) =>
    `| ${where} | ${times.map((one) => (one === 0 ? '' : digits((one * 1000) / (PROCESSES * ROUNDS)))).join(' | ')} |`;
  return [
    `**Locks that ${PROCESSES} processes wait for**, times in 1,000 allocations and closes of 4 KiB`,
    '',
    `| in | lock | ${HEAPS.map(({ name }) => name).join(' | ')} |`,
    `| --- | --- | ${HEAPS.map(() => '---: |').join(' ')}`,
    ...shown.map(({ name, counts: times }) => line(name, times)),
    ...(others > 0 ? [line(`${others} others |`, rest)] : []),
    line('all |', all),
  ].join('\n');
}

/**
 * Counts the waits for locks, where the row of processes that allocate at the same time is wanted. They have as many
 * processors as there are of them, which run as this machine lets them: a number of waits is no measurement.
 * @returns a table, in Markdown
 */
export async function locksInGuest(
  arch: string,
  directory: string,
  wanted: (row: Subject) => boolean,
): Promise<string | undefined> {
  if (!togetherWanted(wanted)) return undefined;
  await compileForGuest(arch, directory);
  await writeFile(join(directory, 'locks'), guestScript());
  const options = { arch, kernel: KERNEL, smp: PROCESSES, mem: 512, timeout: 600, share: directory };
  const words = Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
  await run(join(projectRoot, 'scripts/guest'), [...words, '--append', 'init_on_alloc=0', '--', 'sh', '/share/locks'], {
    purpose: 'looking for locks in the guest',
  });
  const counts = await Promise.all(
    HEAPS.map(async ({ heap }, i) => {
      const overrun = await readFile(join(directory, `overrun.${i}`), 'latin1');
      if (/overrun: [1-9]/.test(overrun))
        throw new Failure(`${heap}: there were more waits for locks than the trace holds`);
      return waits(await readFile(join(directory, `trace.${i}`), 'latin1'));
    }),
  );
  say('  waits for locks counted in the guest');
  return table(counts);
}
