// SPDX-License-Identifier: MIT
/** What can be said on the command line of `dmabuf`, and what it says about itself. @module */
import { type ParseArgsConfig, parseArgs } from 'node:util';

const flag = { type: 'boolean' } as const;
const text = { type: 'string' } as const;
const many = { type: 'string', multiple: true } as const;
const common = { json: flag, help: { ...flag, short: 'h' } } as const;
const descriptors = { ...common, fd: many } as const;
const range = { offset: text, length: text } as const;

/** Options by subcommand, for `parseArgs()`. */
export const options = {
  heaps: { ...common, all: flag },
  alloc: {
    ...common,
    from: text,
    heap: text,
    type: text,
    contiguous: flag,
    protected: flag,
    cached: flag,
    name: text,
  },
  ps: { ...common, pid: many },
  doctor: { ...common, 'kernel-config': text },
  send: { ...descriptors, value: text },
  recv: { ...common, count: text },
  dump: { ...descriptors, ...range, raw: flag },
  fill: { ...descriptors, ...range, from: text },
} as const satisfies Record<string, ParseArgsConfig['options']>;

/** A subcommand. */
export type Name = keyof typeof options;

/** What was said to a subcommand. */
export interface Args<N extends Name> {
  values: ReturnType<typeof parseArgs<{ options: (typeof options)[N] }>>['values'] & { json?: boolean; help?: boolean };
  positionals: string[];
  /** what stands behind `--` */
  command: string[] | undefined;
}

interface Usage {
  /** for the list of subcommands */
  summary: string;
  /** behind its name */
  synopsis: string;
  /** how many words it takes that are no options */
  words: readonly [least: number, most: number];
  /** whether it runs a COMMAND */
  runs?: true;
  text: string;
}

const JSON_OPTION = `  --json             JSON for programs; errors, too, on standard error
  -h, --help         this`;
const FD_OPTION = `  --fd N|PID:FD      the inherited descriptor N, or FD of the process PID,
                     not what DMABUF_FDS names`;
const RANGE_OPTIONS = `  --offset SIZE      where to begin (default 0)
  --length SIZE      how much of it (default: to the end)`;
const COMMAND_TEXT = `COMMAND inherits the buffers as descriptors 3, 4, …, and has their numbers in
DMABUF_FDS, where send, dump and fill look for them.`;
const SIZE_TEXT = 'A SIZE is in bytes, or has K, M or G behind it.';

/** What each subcommand says about itself. */
export const usages: Readonly<Record<Name, Usage>> = {
  heaps: {
    summary: 'lists what buffers can be allocated from',
    synopsis: '[OPTION]…',
    words: [0, 0],
    text: `Lists the heaps of this machine, what is allocated from them, and why one
cannot be opened.

  --all              also the kinds that are not here, and what would bring them
${JSON_OPTION}

ID is the bit of an ion heap in masks. BUFFERS and KIB are those of all
processes, where a module counts them. In a narrow terminal columns are left
out, and names are cut: a pipe and --json have all.`,
  },
  alloc: {
    summary: 'allocates a buffer, for a command or until it is interrupted',
    synopsis: 'SIZE [OPTION]… [-- COMMAND ARG…]',
    words: [1, 1],
    runs: true,
    text: `Allocates a zeroed buffer. With a COMMAND it runs that with the buffer, says
nothing itself, and ends as COMMAND does; else it shows the buffer and holds it
until it is interrupted (Ctrl-C).

  --from KIND|PATH   ion, dma-heap, cma-mem, udmabuf, memfd, or a device
                     (default: the first of DMA memory that has what is asked)
  --heap NAME|ID     one of several heaps; without --from the first that is
                     called so, or has this id
  --type TYPE        of ion: system, system_contig, carveout, dma, iommu, …
  --[no-]contiguous  it must be, or must not be, one piece of physical memory
  --[no-]protected   the CPU is to be kept from it, or is not to be
  --[no-]cached      no: mappings of the CPU are write-combined
  --name NAME        what the kernel shows it as, at most 31 bytes
${JSON_OPTION}

${SIZE_TEXT}
${COMMAND_TEXT}`,
  },
  ps: {
    summary: 'lists the dma-bufs of all processes, and who holds them',
    synopsis: '[OPTION]…',
    words: [0, 0],
    text: `Lists the dma-bufs of the whole machine: a line for each process that holds
one. Root sees all of them; others see what processes of their own hold.

  --pid PID          only what this process holds; may be repeated
${JSON_OPTION}

FDS are its descriptors, MAPS counts its mappings. A buffer without a PID is
held by a driver alone; DEVICES are attached to it. The kernel tells both to
root, by debugfs.`,
  },
  doctor: {
    summary: 'says what is missing for DMA memory, and how to get it',
    synopsis: '[OPTION]…',
    words: [0, 0],
    text: `Looks at the kernel's options, the modules, the devices and who may open them,
and at contiguous memory. Each has a verdict: ok; warn where something is not
there that others may make up for; bad where DMA memory cannot be had, or
something is there and does not work. What is not ok comes with a cure.

  --kernel-config FILE
                     what this kernel was built with, where that is not in
                     /proc/config.gz, /boot/config-RELEASE or
                     /lib/modules/RELEASE/config; may be gzipped
${JSON_OPTION}

It ends with 1 when a verdict is bad.`,
  },
  send: {
    summary: 'hands buffers to a dmabuf recv, or to an FdSocket that listens',
    synopsis: 'PATH [OPTION]…',
    words: [1, 1],
    text: `Connects to a unix socket and sends one message with the buffers it has
inherited:

  dmabuf alloc 8M -- dmabuf send /tmp/socket

  --value JSON       what the message says (default null)
${FD_OPTION}; may be repeated
${JSON_OPTION}`,
  },
  recv: {
    summary: 'receives buffers, and runs a command with them',
    synopsis: 'PATH [OPTION]… [-- COMMAND ARG…]',
    words: [1, 1],
    runs: true,
    text: `Listens on a unix socket, which must not exist, and shows each message that
comes and the buffers in it, one peer after the other. With a COMMAND it runs
that with the buffers of each message, says nothing itself, and ends as soon as
COMMAND ends with anything but 0.

  --count N          how many messages (default 1)
${JSON_OPTION}

${COMMAND_TEXT} DMABUF_VALUE is what
the message says, as JSON. With --json there is a line for each message.`,
  },
  dump: {
    summary: 'shows what is in a buffer',
    synopsis: '[PID:FD] [OPTION]…',
    words: [0, 1],
    text: `Shows the bytes of the buffer it has inherited, or of one that another process
holds (dmabuf ps lists PID and FDS), in hexadecimal; * stands for lines like the
one before:

  dmabuf alloc 8M -- dmabuf dump

  --raw              the bytes as they are
${RANGE_OPTIONS}
${FD_OPTION}
${JSON_OPTION}

${SIZE_TEXT} In JSON the bytes are base64.`,
  },
  fill: {
    summary: 'writes to a buffer',
    synopsis: '[BYTE] [OPTION]…',
    words: [0, 1],
    text: `Fills the buffer it has inherited with BYTE, 0 to 255 (default 0; 0x2a is 42,
too), or copies a file into it:

  dmabuf recv /tmp/socket -- dmabuf fill 0xff

  --from FILE        the bytes of FILE, - for standard input, as far as they go
${RANGE_OPTIONS}
${FD_OPTION}
${JSON_OPTION}

${SIZE_TEXT}`,
  },
};

const EXIT_CODES = `exit codes: 0; 1 something failed, or the doctor found something bad; 2 wrong
usage. With a COMMAND: its own; 128+n when signal n ended it; 127 there is no
such COMMAND; 126 it cannot be run; 125 it was not run because something else
failed or was wrong.`;

/** What `dmabuf --help` says. */
export const overview = `usage: dmabuf SUBCOMMAND [OPTION]… [-- COMMAND ARG…]

Looks at DMA buffers, makes them, and hands them to other processes.

${Object.entries(usages)
  .map(([name, { summary }]) => `  ${name.padEnd(8)} ${summary}`)
  .join('\n')}

dmabuf SUBCOMMAND --help has the rest, dmabuf --version the version.

${EXIT_CODES}
`;

/** What `dmabuf NAME --help` says. */
export function helpOf(name: Name): string {
  const { synopsis, text } = usages[name];
  return `usage: dmabuf ${name} ${synopsis}\n\n${text}\n`;
}

/** What was said cannot be meant. */
export class UsageError extends Error {}

/** Whether there is such a subcommand. */
export function isName(name: string): name is Name {
  return Object.hasOwn(options, name);
}

/** What was said to a subcommand. */
export function parse<N extends Name>(name: N, words: string[]): Args<N> {
  const { words: count, synopsis, runs } = usages[name];
  const end = runs ? words.indexOf('--') : -1;
  const args = end < 0 ? words : words.slice(0, end);
  const usage = `usage: dmabuf ${name} ${synopsis}; dmabuf ${name} --help has the rest.`;
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ args, options: options[name], allowPositionals: true, allowNegative: true });
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split(/\.\s/)[0]}. ${usage}`);
  }
  const { positionals } = parsed;
  const values = parsed.values as Args<N>['values'];
  const command = end < 0 ? undefined : words.slice(end + 1);
  if (values.help) return { values, positionals, command };
  const [least, most] = count;
  if (positionals.length < least) throw new UsageError(`${synopsis.split(' ')[0]} is missing. ${usage}`);
  if (positionals.length > most) throw new UsageError(`Too many words: ${positionals[most]}. ${usage}`);
  if (command?.length === 0) throw new UsageError(`There is no COMMAND behind --. ${usage}`);
  return { values, positionals, command };
}

/** The kernel's largest (linux/threads.h). */
export const MAX_PID = 2 ** 22;

/** A whole number that was said. */
export function integer(what: string, value: string, least: number, most: number): number {
  const number = /^(\d+|0x[\da-f]+)$/i.test(value) ? Number(value) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw new UsageError(`${what} ${value}: a whole number from ${least} to ${most} is expected`);
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** Bytes that were said. */
export function size(what: string, value: string): number {
  const [, number = '', unit = ''] = /^(\d+|0x[\da-f]+)([KMG]?)$/i.exec(value) ?? [];
  const bytes = Number(number) * (UNITS[unit.toUpperCase()] as number);
  if (number !== '' && Number.isSafeInteger(bytes)) return bytes;
  throw new UsageError(`${what} ${value}: a number of bytes is expected, which K, M or G may follow`);
}
