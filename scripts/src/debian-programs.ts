// SPDX-License-Identifier: MIT
// Programs of Debian's for one run in a guest, in a directory it shares: its own image is for what many need.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packagesWithDependencies, unpack } from './apt.ts';
import { type Architecture, oldestSuite } from './machines.ts';

interface Program {
  package: string;
  /** The files of packages that the guest has not. */
  files: RegExp;
  /** What it is told each time, as sh takes it. */
  options?: string;
}

const programs = {
  // It would hand the path of its libraries on to what it traces.
  strace: { package: 'strace', files: /^(strace|libunwind8|liblzma5)_/, options: '-E LD_LIBRARY_PATH' },
  'v4l2-ctl': { package: 'v4l-utils', files: /^(v4l-utils|libv4l.*|libjpeg.*|libudev1|libcap2)_/ },
} satisfies Record<string, Program>;

/** Puts a program into a directory: it can be run there, and wherever the directory is copied to. */
export async function bringProgram(name: keyof typeof programs, directory: string, userland: Architecture) {
  const { package: wanted, files, options = '' }: Program = programs[name];
  // Those of the oldest suite run with the libraries of newer ones.
  const sources = [{ suite: oldestSuite, architectures: [userland.name] }];
  const debs = await packagesWithDependencies(`${wanted} (${userland.name})`, sources, [wanted]);
  await unpack(debs, join(directory, `${name}.d`), files);
  const script = `#!/bin/sh
root=$(dirname "$0")/${name}.d/usr
LD_LIBRARY_PATH="$root/lib/${userland.gnu}" exec "$root/bin/${name}" ${options} "$@"
`;
  await writeFile(join(directory, name), script, { mode: 0o755 });
}
