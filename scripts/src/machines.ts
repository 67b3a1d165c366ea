// SPDX-License-Identifier: MIT
// What there is to choose from: machines QEMU emulates and the kernels Debian has for them.
import { Failure } from './failure.ts';

export interface Architecture {
  /** Debian's name. */
  name: string;
  /** The kernel makefiles' name. */
  kernelName: string;
  /** Prefix of the cross compiler. */
  gnu: string;
  qemu: string;
  machine: string[];
  console: string;
  /** npm package that holds esbuild's program for it. */
  esbuild: string;
  /** Debian packages of this machine that emulate it and compile for it. */
  tools: string[];
  largestMemory: number;
}

export const architectures: Record<string, Architecture> = {
  armhf: {
    name: 'armhf',
    kernelName: 'arm',
    gnu: 'arm-linux-gnueabihf',
    qemu: 'qemu-system-arm',
    // Without high memory: 5.10 does not find the PCI bus otherwise, and RAM is 3 GiB at most anyway.
    machine: ['-machine', 'virt,highmem=off', '-cpu', 'cortex-a15'],
    console: 'ttyAMA0',
    esbuild: '@esbuild/linux-arm',
    tools: ['qemu-system-arm', 'gcc-arm-linux-gnueabihf', 'g++-arm-linux-gnueabihf', 'libc6-dev-armhf-cross'],
    largestMemory: 3072,
  },
};

export interface Kernel {
  name: string;
  /** The Debian suite it is in. */
  suite: string;
  /** Flavour of its packages, by architecture. */
  flavour: Record<string, string>;
}

export const kernels: Record<string, Kernel> = {
  '6.1': { name: '6.1', suite: 'bookworm', flavour: { armhf: 'armmp-lpae' } },
};

const TOOLS = 'ca-certificates cmake cpio debian-archive-keyring gpgv kmod make squashfs-tools util-linux'.split(' ');

/** Debian packages this machine needs to build a guest and to run it. */
export const toolsFor = (architecture: Architecture) => [...TOOLS, ...architecture.tools];

/** The Debian suite the guest's programs come from, whatever its kernel, by the node it has. */
const userlands: Record<string, string> = { '20': 'trixie', '24': 'forky' };
export const nodeVersions = Object.keys(userlands);

export function userlandSuite(node: string): string {
  const suite = userlands[node];
  if (suite === undefined) throw new Failure(`--node ${node}: there is ${nodeVersions.join(', ')}`);
  return suite;
}

export function chooseMachine(arch: string, kernelName: string): { architecture: Architecture; kernel: Kernel } {
  const architecture = architectures[arch];
  const kernel = kernels[kernelName];
  if (!architecture) throw new Failure(`--arch ${arch}: there is ${Object.keys(architectures).join(', ')}`);
  if (!kernel) throw new Failure(`--kernel ${kernelName}: there is ${Object.keys(kernels).join(', ')}`);
  if (!kernel.flavour[arch]) {
    const others = Object.keys(kernel.flavour).join(', ');
    throw new Failure(`there is no kernel ${kernelName} for ${arch}: Debian has it for ${others}`);
  }
  return { architecture, kernel };
}
