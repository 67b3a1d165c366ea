// SPDX-License-Identifier: MIT
// The guests every change is tried on: each kernel there is on each architecture it is for, and what else differs.
import {
  architectures,
  chooseMachine,
  defaultNode,
  kernels,
  type Machine,
  newestNode,
  oldestNode,
} from './machines.ts';

export interface Combination {
  /** KERNEL-ARCH, and what else sets it apart. */
  name: string;
  machine: Machine;
  /** Options of scripts/guest that make it. */
  options: string[];
}

function combination(kernel: string, arch: string, userland = arch, node = defaultNode): Combination {
  const own = userland === arch;
  const usual = node === defaultNode;
  return {
    name: [kernel, arch, ...(own ? [] : [userland]), ...(usual ? [] : [`node${node}`])].join('-'),
    machine: chooseMachine(arch, kernel, userland),
    options: [
      ...['--arch', arch, '--kernel', kernel],
      ...(own ? [] : ['--userland', userland]),
      ...(usual ? [] : ['--node', node]),
    ],
  };
}

export const combinations: Combination[] = [
  ...Object.values(kernels)
    .filter(({ debug }) => !debug)
    .flatMap(({ name, flavour }) =>
      Object.keys(architectures)
        .filter((arch) => flavour[arch])
        .map((arch) => combination(name, arch)),
    ),
  // 32-bit programs on a 64-bit kernel; one line has the kernel's own udmabuf besides.
  ...['6.1', '6.12'].map((kernel) => combination(kernel, 'arm64', 'armhf')),
  combination('6.1', 'armhf', 'armhf', oldestNode),
  combination('7.2', 'arm64', 'arm64', newestNode),
];

/** The combination npm test runs. */
export const standard = '6.1-armhf';

/**
 * What a run with little time tries besides the standard one: one for arm64, and one of the rest, others at each turn.
 * The lab kernel for arm64 takes longer to build than all of them to try.
 */
export function turn(number: number): Combination[] {
  const others = combinations.filter(({ name }) => name !== standard && name !== 'lab-arm64');
  const arm64 = others.filter(({ machine }) => machine.userland.name === 'arm64' && machine.kernel.suite);
  const first = arm64[number % arm64.length];
  const rest = others.filter((one) => one !== first);
  // Each of the rest with each for arm64.
  const second = rest[Math.floor(number / arm64.length) % rest.length];
  return combinations.filter((one) => one === first || one === second);
}
