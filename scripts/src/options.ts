// SPDX-License-Identifier: MIT
// The command line of scripts/guest.
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Failure } from './failure.ts';
import {
  architectures,
  chooseMachine,
  defaultNode,
  kernels,
  type Machine,
  newestNode,
  nodeVersions,
} from './machines.ts';

export const usage = `usage: scripts/guest [OPTION]… [-- COMMAND ARG…]

Boots a QEMU guest with the modules loaded and this project at /project, runs COMMAND in it
and ends with its exit code. Without a COMMAND: a shell.

  --arch NAME        ${Object.keys(architectures).join(' | ')} (default armhf)
  --kernel NAME      ${Object.keys(kernels).join(' | ')} (default 6.1);
                     lab and debug are built here: minutes, the first time
  --userland NAME    architecture of the programs (default: that of --arch): armhf on arm64
  --node VERSION     ${nodeVersions.join(' | ')} (default ${defaultNode}); the first two bring the programs of their Debian
                     suite, ${newestNode} is for 64-bit programs
  --mem MIB          memory (default 1024)
  --cma MIB          contiguous memory area (default 64)
  --smp N            processors (default 2, with --icount 1)
  --append ARGS      added to the kernel's command line
  --dtbo FILE        device-tree overlay to apply; may be repeated
  --share DIR        DIR as /share, read-write
  --module "NAME PARAMETER=VALUE…"
                     load a module with these parameters: one of ours (dmabuf_core, exporter,
                     ion_lite, cma_mem) instead of its default ones, or one of the kernel's;
                     may be repeated
  --no-modules       do not load our modules
  --forward HOSTPORT:PORT
                     open PORT of the guest as 127.0.0.1:HOSTPORT; may be repeated
  --screendump FILE  save the display as FILE (PNG) when COMMAND ends
  --qemu-arg ARG     one more argument for QEMU; may be repeated
  --icount           guest time follows instructions executed
  --timeout S        end COMMAND after S seconds, with 124
  --allow-splat      do not end with 99 when the kernel reports a bug
  --help             this

exit codes: COMMAND's own; 128+n when a signal ended it; 124 timeout; 125 the guest failed;
99 the kernel printed a warning, BUG, oops or another report, or panicked.
`;

export interface Options {
  machine: Machine;
  node: string;
  memory: number;
  cma: number;
  processors: number;
  append: string;
  overlays: string[];
  share: string | undefined;
  /** Parameters by module name. */
  modules: Map<string, string[]>;
  ownModules: boolean;
  forward: [host: number, guest: number][];
  screendump: string | undefined;
  qemu: string[];
  icount: boolean;
  /** Seconds, 0 for none. */
  timeout: number;
  allowSplat: boolean;
  command: string[] | undefined;
}

/** undefined: help was asked for. @throws Failure naming the option that is wrong */
export function parseOptions(args: string[]): Options | undefined {
  const split = args.indexOf('--');
  const own = split < 0 ? args : args.slice(0, split);
  const values = parse(own);
  if (values.help) return undefined;
  const command = split < 0 ? undefined : args.slice(split + 1);
  if (command?.length === 0) throw new Failure('a COMMAND is expected after --');

  const machine = chooseMachine(values.arch ?? 'armhf', values.kernel ?? '6.1', values.userland);
  const { architecture } = machine;
  const memory = number('mem', values.mem ?? '1024', 128, architecture.largestMemory);
  if (values.dtbo && architecture.bus === 'pci') {
    throw new Failure(`--dtbo: machines of --arch ${architecture.name} have no device tree`);
  }
  return {
    machine,
    node: values.node ?? defaultNode,
    memory,
    cma: number('cma', values.cma ?? '64', 0, Math.floor(memory / 2)),
    processors: processors(values.smp, values.icount ?? false),
    append: values.append ?? '',
    overlays: (values.dtbo ?? []).map(overlay),
    share: values.share === undefined ? undefined : existing('share', values.share, true),
    modules: new Map((values.module ?? []).map(moduleParameters)),
    ownModules: !values['no-modules'],
    forward: (values.forward ?? []).map(ports),
    screendump: values.screendump === undefined ? undefined : writable('screendump', values.screendump),
    qemu: values['qemu-arg'] ?? [],
    icount: values.icount ?? false,
    timeout: values.timeout === undefined ? 0 : seconds(values.timeout),
    allowSplat: values['allow-splat'] ?? false,
    command,
  };
}

function parse(args: string[]) {
  const text = { type: 'string' } as const;
  const many = { type: 'string', multiple: true } as const;
  const flag = { type: 'boolean' } as const;
  try {
    return parseArgs({
      // --append, --qemu-arg and --module take values that look like options.
      args: join(args, ['--append', '--qemu-arg', '--module']),
      options: {
        arch: text,
        userland: text,
        kernel: text,
        node: text,
        mem: text,
        cma: text,
        smp: text,
        append: text,
        dtbo: many,
        share: text,
        module: many,
        'no-modules': flag,
        forward: many,
        screendump: text,
        'qemu-arg': many,
        icount: flag,
        timeout: text,
        'allow-splat': flag,
        help: { ...flag, short: 'h' },
      },
    }).values;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const positional = code === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL';
    const cure = positional ? 'A command goes after --' : 'scripts/guest --help shows what there is';
    throw new Failure(`${message.split(/\.\s/)[0]}. ${cure}.`);
  }
}

/** An option and its value as one word, whatever the value looks like. */
function join(args: string[], options: string[]): string[] {
  const joined: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const [word, value] = [args[i] as string, args[i + 1]];
    if (options.includes(word) && value !== undefined) {
      joined.push(`${word}=${value}`);
      i++;
    } else {
      joined.push(word);
    }
  }
  return joined;
}

function number(option: string, value: string, least: number, most: number): number {
  const n = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!(n >= least && n <= most)) throw new Failure(`--${option} ${value}: a whole number from ${least} to ${most}`);
  return n;
}

function processors(value: string | undefined, icount: boolean): number {
  const n = number('smp', value ?? (icount ? '1' : '2'), 1, 8);
  // QEMU 7.2 does not get past the boot of the second one.
  if (icount && n > 1) throw new Failure(`--smp ${n}: --icount counts the instructions of one processor`);
  return n;
}

function seconds(value: string): number {
  const n = /^\d+(\.\d+)?$/.test(value) ? Number(value) : 0;
  if (!(n > 0 && n <= 86400)) throw new Failure(`--timeout ${value}: seconds, more than 0 and at most 86400`);
  return n;
}

function existing(option: string, path: string, directory: boolean): string {
  const kind = directory ? 'directory' : 'file';
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory() !== directory) throw new Failure(`--${option} ${path}: there is no such ${kind}`);
  return resolve(path);
}

/** The first bytes of a compiled device tree. */
const FDT_MAGIC = 'd00dfeed';

function overlay(path: string): string {
  const file = existing('dtbo', path, false);
  const bytes = Buffer.alloc(FDT_MAGIC.length / 2);
  const fd = openSync(file, 'r');
  try {
    readSync(fd, bytes);
  } finally {
    closeSync(fd);
  }
  if (bytes.toString('hex') !== FDT_MAGIC) {
    throw new Failure(`--dtbo ${path}: it is not compiled; dtc -@ -I dts -O dtb -o FILE.dtbo ${path} does that`);
  }
  return file;
}

function writable(option: string, path: string): string {
  const directory = dirname(resolve(path));
  if (!existsSync(directory)) throw new Failure(`--${option} ${path}: there is no directory ${directory}`);
  return resolve(path);
}

function ports(value: string): [number, number] {
  const [, host, guest] = /^(\d+):(\d+)$/.exec(value) ?? [];
  const both = [Number(host), Number(guest)] as [number, number];
  if (both.some((port) => !(port >= 1 && port <= 65535))) {
    throw new Failure(`--forward ${value}: HOSTPORT:PORT is expected, both from 1 to 65535`);
  }
  return both;
}

function moduleParameters(value: string): [name: string, parameters: string[]] {
  const [name, ...parameters] = words(value);
  const wrong = parameters.find((word) => !/^[\w.-]+(=|$)/.test(word));
  if (name === undefined || !/^[\w-]+$/.test(name) || wrong !== undefined) {
    const which = wrong === undefined ? '' : `, not ${wrong}`;
    throw new Failure(`--module ${JSON.stringify(value)}: "NAME PARAMETER=VALUE…" is expected${which}`);
  }
  return [name.replaceAll('-', '_'), parameters];
}

/** Words as a shell and the kernel split them: white space, unless it is in double quotes. */
function words(text: string): string[] {
  return [...text.matchAll(/(?:[^\s"]|"[^"]*")+/g)].map(([word]) => word);
}
