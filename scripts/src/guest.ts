// SPDX-License-Identifier: MIT
// scripts/guest: boots a guest, runs one command in it, ends with its exit code.
import { copyFile, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { getSystemErrorMap } from 'node:util';
import { buildBridge, buildModules } from './build.ts';
import { EXIT_FAILED, EXIT_REPORT, EXIT_TIMEOUT, Failure, told } from './failure.ts';
import { requirePackages } from './host.ts';
import { type KernelFiles, kernelFiles } from './kernel.ts';
import { type Architecture, nodeLine, toolsFor } from './machines.ts';
import { type Options, parseOptions, usage } from './options.ts';
import { say } from './progress.ts';
import { ensureDist, projectRoot } from './project.ts';
import { Guest, GuestGone, quoted } from './qemu.ts';
import { ReportWatch } from './reports.ts';
import { initrd, userland } from './rootfs.ts';
import { run, stopAll } from './run.ts';

/** Boot to the agent: many times what an idle machine needs. */
const BOOT_MS = 300_000;
/** A killed command, an ended guest: how long we wait before we do it the hard way. */
const END_MS = 15_000;
/** The command has ended: to write what it left to /share. */
const QUIET_MS = 60_000;
/** What the kernel has to say after the first line of a panic. */
const PANIC_MS = 3000;
const CONSOLE_LINES = 30;
/** An instruction takes 2^3 ns: about the pace of emulation, so that sleeps cost what they say. */
const ICOUNT_SHIFT = 3;

const OWN_MODULES = ['dmabuf_core', 'exporter', 'ion_lite', 'cma_mem'];

interface Files {
  kernel: KernelFiles;
  image: string;
  initrd: string;
  modules: string | undefined;
  bridge: string;
}

async function prepare(options: Options): Promise<Files> {
  const { machine } = options;
  const { architecture } = machine;
  const line = nodeLine(options.node, machine.userland);
  await requirePackages([...toolsFor(machine), ...(options.overlays.length ? ['device-tree-compiler'] : [])]);
  await ensureDist();
  const kernel = await kernelFiles(machine.kernel, architecture);
  const programs = await userland(machine.userland, line);
  const files = {
    kernel,
    image: programs.image,
    initrd: await initrd(kernel, machine, programs),
    modules: options.ownModules ? await buildModules(kernel, architecture) : undefined,
    bridge: await buildBridge(machine.userland, programs.uvInclude),
  };
  // What the bridge is mounted over.
  await mkdir(join(projectRoot, 'build'), { recursive: true });
  return files;
}

function qemuArguments(options: Options, files: Files, architecture: Architecture): string[] {
  const { bus } = architecture;
  const folder = (tag: string, path: string, readonly: boolean) => [
    '-fsdev',
    `local,id=${tag},path=${quoted(path)},security_model=none,multidevs=remap${readonly ? ',readonly=on' : ''}`,
    '-device',
    `virtio-9p-${bus},fsdev=${tag},mount_tag=${tag}`,
  ];
  const append = [
    `console=${architecture.console} ignore_loglevel panic=-1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1`,
    `net.ifnames=0 cma=${options.cma}M`,
    options.machine.kernel.append ?? '',
    options.append,
  ];
  const args = [...architecture.machine, '-smp', `${options.processors}`, '-m', `${options.memory}`];
  if (options.icount) args.push('-icount', `shift=${ICOUNT_SHIFT}`);
  args.push('-kernel', files.kernel.image, '-initrd', files.initrd, '-append', append.join(' ').trim());
  args.push('-drive', `if=none,id=root,format=raw,readonly=on,file=${quoted(files.image)}`);
  args.push('-device', `virtio-blk-${bus},drive=root`);
  args.push(...folder('project', projectRoot, true), ...folder('bridge', files.bridge, true));
  args.push(...folder('modules', join(files.modules ?? files.kernel.root, 'lib/modules'), true));
  if (options.share !== undefined) args.push(...folder('share', options.share, false));
  if (options.forward.length) {
    const doors = options.forward.map(([host, guest]) => `,hostfwd=tcp:127.0.0.1:${host}-10.0.2.15:${guest}`);
    args.push('-netdev', `user,id=net,restrict=on${doors.join('')}`, '-device', `virtio-net-${bus},netdev=net`);
  }
  if (options.screendump !== undefined) args.push('-device', `virtio-gpu-${bus}`);
  return [...args, ...options.qemu];
}

/** What the guest does before COMMAND, as a shell script. */
function setup(options: Options): string {
  const mount9p = 'mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000';
  const lines = [
    'set -e',
    'mount -t devtmpfs dev /dev 2>/dev/null || true',
    'mkdir -p /dev/pts /dev/shm',
    'mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts',
    'mount -t tmpfs -o mode=1777 shm /dev/shm',
    'mount -t tmpfs -o mode=1777 tmp /tmp',
    'mount -t tmpfs -o mode=755 run /run',
    'mount -t debugfs debugfs /sys/kernel/debug',
    'mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true',
    'ln -sf /proc/self/fd /dev/fd; ln -sf fd/0 /dev/stdin; ln -sf fd/1 /dev/stdout; ln -sf fd/2 /dev/stderr',
    'ln -s /project/dist/command/main.js /usr/local/bin/dmabuf',
    'hostname guest',
    'ip link set lo up',
    `${mount9p},cache=loose,ro project /project`,
    `${mount9p},cache=loose,ro bridge /project/build`,
    `${mount9p},cache=loose,ro modules /lib/modules`,
  ];
  if (options.share !== undefined) lines.push(`${mount9p},cache=mmap,access=any share /share`);
  if (options.forward.length) {
    lines.push('modprobe virtio_net', 'ip link set eth0 up', 'ip addr add 10.0.2.15/24 dev eth0');
    lines.push('ip route add default via 10.0.2.2');
  }
  if (options.screendump !== undefined) lines.push('modprobe virtio_gpu');
  if (options.qemu.length) {
    // Drivers for devices we know nothing of, as udev would find them.
    lines.push('modprobe virtio_pci', 'find /sys/devices -name modalias -exec cat {} + | sort -u >/tmp/modalias');
    lines.push('xargs -r modprobe -abq </tmp/modalias || true', 'rm /tmp/modalias');
  }
  const ours = options.ownModules ? OWN_MODULES : [];
  const all = [...ours, ...[...options.modules.keys()].filter((name) => !ours.includes(name))];
  for (const name of all) {
    const parameters = options.modules.get(name) ?? [];
    lines.push(...parameters.map((parameter) => hasParameter(name, parameter)));
    lines.push(['modprobe', name, ...parameters.map(shellQuoted)].join(' '));
  }
  return lines.join('\n');
}

/** A module is loaded without those it does not know, as if nothing had been asked for. */
function hasParameter(module: string, parameter: string): string {
  const [name = ''] = parameter.replaceAll('-', '_').split('=');
  const complaint = shellQuoted(`${module} has no parameter ${name}; modinfo ${module} shows what it has`);
  return `[ ${name} = dyndbg ] || modinfo -F parm ${module} | grep -q '^${name}:' || { echo ${complaint} >&2; exit 1; }`;
}

const shellQuoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;

const { TERM = 'dumb' } = process.env;

const environment: Record<string, string> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/project/node_modules/.bin',
  HOME: '/root',
  USER: 'root',
  SHELL: '/bin/bash',
  LANG: 'C.UTF-8',
  TERM,
  NODE_OPTIONS: '--import=/usr/lib/dmabuf/register.mjs',
};

/** For files QEMU writes. Made where there are any: a run that is killed has mostly none to leave behind. */
async function ownDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'dmabuf-guest-'));
  onTheWayOut.push(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** A device tree with the overlays applied to what QEMU would have made itself. */
async function deviceTree({ qemu, bus }: Architecture, args: string[], overlays: string[]): Promise<string[]> {
  if (overlays.length === 0) return [];
  const directory = await ownDirectory();
  const base = join(directory, 'base.dtb');
  const machine = args.map((arg, i) => (args[i - 1] === '-machine' ? `${arg},dumpdtb=${quoted(base)}` : arg));
  await run(qemu, ['-nodefaults', '-display', 'none', '-device', `virtio-serial-${bus}`, ...machine], {
    purpose: 'asking QEMU for its device tree',
  });
  const merged = join(directory, 'merged.dtb');
  await run('fdtoverlay', ['-i', base, '-o', merged, ...overlays], { purpose: 'applying the device-tree overlays' });
  return ['-dtb', merged];
}

let running: Guest | undefined;
let stoppedBy: 'SIGINT' | 'SIGTERM' | 'SIGHUP' | undefined;

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (!options) {
    process.stdout.write(usage);
    return 0;
  }
  const files = await prepare(options);
  const { architecture } = options.machine;
  const args = qemuArguments(options, files, architecture);
  const tree = await deviceTree(architecture, args, options.overlays);
  if (stoppedBy !== undefined) return EXIT_FAILED;
  const guest = new Guest(architecture.qemu, architecture.bus, [...args, ...tree]);
  running = guest;
  onTheWayOut.push(() => guest.stop());
  return new Run(options, guest).toTheEnd();
}

/** One guest from its boot to its end. */
class Run {
  readonly #watch: ReportWatch;
  readonly #console: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #panicTimer: NodeJS.Timeout | undefined;
  #timedOut = false;

  constructor(
    readonly options: Options,
    readonly guest: Guest,
  ) {
    this.#watch = new ReportWatch(options.machine.kernel.name, options.machine.architecture.name);
    guest.on('console', (line) => {
      this.#console.push(line);
      if (this.#console.length > 1000) this.#console.shift();
      this.#watch.line(line);
      // The kernel reboots after a panic, which ends QEMU; make sure of it.
      if (this.#watch.panicked) this.#panicTimer ??= setTimeout(() => void guest.stop(), PANIC_MS);
    });
  }

  async toTheEnd(): Promise<number> {
    let code: number;
    try {
      code = await this.#bootAndRun();
      this.#watch.taint(await this.#within(QUIET_MS, 'the guest does not come to an end', this.guest.quiet()));
      await this.guest.command('quit').catch(() => {});
      await this.guest.stopped(2000);
    } catch (error) {
      await this.guest.stopped(this.#watch.panicked ? PANIC_MS : 0);
      if (error instanceof GuestGone && this.options.command === undefined && this.#poweredOff()) {
        code = 0;
      } else {
        code = EXIT_FAILED;
        if (!this.#watch.panicked && stoppedBy === undefined) this.#explain(error);
      }
    }
    if (this.#timedOut) {
      code = EXIT_TIMEOUT;
      say(`guest: the command did not end within ${this.options.timeout} s`);
    }
    return this.#reported() && !this.options.allowSplat ? EXIT_REPORT : code;
  }

  #poweredOff(): boolean {
    return this.#console.some((line) => /\breboot: (Power down|Restarting system|System halted)/.test(line));
  }

  #explain(error: unknown): void {
    let why = told(error);
    if (error instanceof GuestGone) {
      why = `the guest went down${this.#poweredOff() ? ' by itself' : ''}${error.message && `: ${error.message}`}`;
    }
    say(`guest: ${why}`);
    const last = this.#console.slice(-CONSOLE_LINES);
    if (last.length) say(['last lines of its console:', ...last].join('\n  '));
  }

  #reported(): boolean {
    const { reports } = this.#watch;
    for (const report of reports) say(`guest: the kernel reported:\n  ${report.join('\n  ')}`);
    return reports.length > 0;
  }

  async #bootAndRun(): Promise<number> {
    const { guest, options } = this;
    if (options.command === undefined && process.stdin.isTTY) say('booting; exit or Ctrl-D ends the guest');
    await this.#within(BOOT_MS, 'the guest does not boot', guest.ready());
    let said = '';
    const collect = (_: 1 | 2, bytes: Buffer) => {
      said += bytes;
    };
    guest.on('output', collect);
    // Whatever goes wrong from here on, how the machine came up has nothing to do with it.
    this.#console.length = 0;
    const script = ['sh', '-c', setup(options)];
    const prepared = guest.run({ argv: script, env: environment, cwd: '/', input: 'null' });
    const { code } = await this.#within(BOOT_MS, 'the guest does not get ready', prepared);
    guest.off('output', collect);
    if (code !== 0) throw new Failure(`the guest cannot be set up (exit code ${code})\n${said.trimEnd()}`);

    const terminal = options.command === undefined && process.stdin.isTTY === true;
    const input = this.#connectStreams(terminal);
    guest.once('started', () => this.#startTimer());
    const ending = await guest.run({
      argv: options.command ?? ['bash', ...(terminal ? ['-i'] : [])],
      env: environment,
      cwd: '/project',
      input: terminal ? 'pty' : 'pipe',
      window: [process.stdout.rows ?? 24, process.stdout.columns ?? 80],
    });
    clearTimeout(this.#timer);
    input.release();
    if (ending.error !== undefined) {
      const [, text] = getSystemErrorMap().get(-ending.error) ?? ['', `error ${ending.error}`];
      say(`guest: ${options.command?.[0]}: ${text}`);
    }
    if (options.screendump !== undefined) await this.#screendump(options.screendump);
    return ending.code;
  }

  #startTimer(): void {
    if (!this.options.timeout) return;
    this.#timer = setTimeout(() => {
      this.#timedOut = true;
      this.guest.kill(constants.signals.SIGKILL);
      // Not even that helps where the guest hangs as a whole.
      setTimeout(() => void this.guest.stop(), END_MS).unref();
    }, this.options.timeout * 1000);
  }

  async #within<T>(milliseconds: number, otherwise: string, work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Failure(otherwise)), milliseconds);
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The command's three streams are ours, byte for byte. */
  #connectStreams(terminal: boolean): { release: () => void } {
    const { guest } = this;
    const { stdin, stdout, stderr } = process;
    /** Of our streams, those that take no more for now. */
    const full = new Set<1 | 2>();
    const empty = (stream: 1 | 2) => {
      full.delete(stream);
      guest.hold(full.size > 0);
    };
    guest.on('output', (stream, bytes) => {
      const to = stream === 1 ? stdout : stderr;
      if (to.destroyed || to.write(bytes) || full.has(stream)) return;
      full.add(stream);
      guest.hold(true);
      to.once('drain', () => empty(stream));
    });
    // Whoever read our output has gone away.
    for (const [stream, to] of [[1, stdout] as const, [2, stderr] as const]) {
      to.on('error', () => {
        empty(stream);
        guest.close(stream);
      });
    }
    const resize = () => guest.resize(stdout.rows, stdout.columns);
    const pass = (bytes: Buffer) => {
      if (guest.feed(bytes)) return;
      stdin.pause();
      guest.drain(() => stdin.resume());
    };
    const end = () => guest.feed();
    guest.once('started', () => {
      if (terminal) {
        stdin.setRawMode(true);
        stdout.on('resize', resize);
      }
      stdin.on('data', pass);
      stdin.on('end', end);
      stdin.on('error', end);
    });
    const release = () => {
      stdin.off('data', pass);
      stdin.off('end', end);
      stdin.pause();
      if (terminal) {
        stdin.setRawMode(false);
        stdout.off('resize', resize);
      }
    };
    guest.once('gone', release);
    return { release };
  }

  async #screendump(file: string): Promise<void> {
    const taken = join(await ownDirectory(), 'screen.png');
    await this.guest.command('screendump', { filename: taken, format: 'png' });
    const part = `${file}.${process.pid}.part`;
    try {
      await copyFile(taken, part);
      await rename(part, file);
    } finally {
      await rm(part, { force: true });
    }
  }
}

const onTheWayOut: (() => Promise<void>)[] = [];

async function leave(code: number): Promise<never> {
  for (const last of onTheWayOut.splice(0).reverse()) await last().catch(() => {});
  // What was written to a pipe is still on its way; whoever stops us does not wait for its reader.
  const written = [process.stdout, process.stderr].map((to) => new Promise((resolve) => to.write('', resolve)));
  if (stoppedBy === undefined) await Promise.all(written);
  process.exit(stoppedBy === undefined ? code : 128 + constants.signals[stoppedBy]);
}

// Progress nobody reads any more is no reason to fail.
for (const to of [process.stdout, process.stderr]) to.on('error', () => {});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    say(`guest: stopped by ${signal}`);
    stoppedBy = signal;
    // Everything under way fails now and clears up after itself; main() ends with the last of it.
    stopAll();
    running?.stop();
    setTimeout(() => void leave(EXIT_FAILED), END_MS).unref();
  });
}

// Should nothing be left to wait for before main() ended.
process.exitCode = EXIT_FAILED;
main().then(leave, (error) => {
  if (stoppedBy === undefined) say(`guest: ${told(error)}`);
  return leave(EXIT_FAILED);
});
