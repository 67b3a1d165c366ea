// SPDX-License-Identifier: MIT
// A stock Debian kernel: its image, its modules and what it takes to build more of them.
import { existsSync } from 'node:fs';
import { chmod, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { packages, unpack } from './apt.ts';
import { cached, hashOf } from './cache.ts';
import { Failure } from './failure.ts';
import type { Architecture, Kernel } from './machines.ts';
import { step } from './progress.ts';
import { run } from './run.ts';

export interface KernelFiles {
  /** Changes with everything below. */
  key: string;
  /** As uname -r says it. */
  release: string;
  image: string;
  /** Holds lib/modules/RELEASE, with modules.dep. */
  root: string;
  /** The KDIR of a build. */
  headers: string;
}

export async function kernelFiles(kernel: Kernel, architecture: Architecture): Promise<KernelFiles> {
  if (kernel.suite !== undefined) return stockKernel(kernel, kernel.suite, architecture);
  const { labKernel } = await import('./lab-kernel.ts');
  return labKernel(architecture);
}

type Depends = (name: string) => Promise<string[]>;

/** Of the packages a package depends on, those that are wanted, at least one. */
async function leadsTo(depends: Depends, from: string, wanted: RegExp): Promise<string[]> {
  const found = (await depends(from)).filter((name) => wanted.test(name));
  if (found.length === 0) throw new Failure(`Debian's ${from} does not lead to ${wanted.source} any more`);
  return found;
}

/** A library and those it needs, so that programs of another Debian release run here. */
async function libraries(depends: Depends, names: string[], architecture: string): Promise<string[]> {
  const all = new Set<string>();
  const add = async (name: string): Promise<void> => {
    if (!/^(lib|zlib)/.test(name) || all.has(name)) return;
    all.add(name);
    for (const other of await depends(`${name}:${architecture}`)) await add(other);
  };
  for (const name of names) await add(name);
  return [...all].map((name) => `${name}:${architecture}`);
}

async function stockKernel(kernel: Kernel, suite: string, architecture: Architecture): Promise<KernelFiles> {
  const flavour = kernel.flavour[architecture.name] as string;
  const build = await run('dpkg', ['--print-architecture'], { purpose: "asking for this machine's architecture" });
  const here = build.trim();
  const there = architecture.name;
  const sources = [{ suite, architectures: [...new Set([there, here])] }];
  const debs = await packages(
    `kernel ${kernel.name} for ${there}`,
    sources,
    { flavour, libraries: true },
    async (depends) => {
      const one = async (from: string, wanted: RegExp) => (await leadsTo(depends, from, wanted))[0] as string;
      const image = await one(`linux-image-${flavour}:${there}`, /^linux-image-\d/);
      // Since 7.2 the image is in pieces.
      const pieces = (await depends(`${image}:${there}`)).filter((name) =>
        /^linux-(base|binary|modules)-\d/.test(name),
      );
      const headers = await one(`linux-headers-${flavour}:${there}`, /^linux-headers-\d/);
      const common = await one(`${headers}:${there}`, /^linux-headers-.*-common/);
      const kbuild = await one(`${headers}:${there}`, /^linux-kbuild-/);
      return [
        ...[image, ...pieces, headers].map((name) => `${name}:${there}`),
        common,
        `${kbuild}:${here}`,
        ...(await libraries(depends, await depends(`${kbuild}:${here}`), here)),
      ];
    },
  );

  const directory = await cached('kernel', [basename(debs), await hashOf([import.meta.filename])], 400 << 20, (part) =>
    step(`unpacking kernel ${kernel.name} for ${there}`, async () => {
      await unpack(debs, part, /^linux-/);
      const modules = join(part, 'lib/modules');
      if (!existsSync(modules)) {
        await mkdir(dirname(modules));
        await rename(join(part, 'usr/lib/modules'), modules);
      }
      const release = await theOnly(modules);
      // Links into /usr/src of a machine these headers are not installed on.
      for (const link of ['build', 'source']) await rm(join(modules, release, link), { force: true });
      await rename(join(part, 'boot', `vmlinuz-${release}`), join(part, 'vmlinuz'));
      await relocate(join(part, 'usr/src', `linux-headers-${release}`, 'Makefile'));
      await unpack(debs, join(part, 'libraries'), /^(?!linux-)/);
      await wrapPrograms(part, architecture.pointerBits);
      await run('depmod', ['-b', part, release], { purpose: 'listing the modules of the kernel' });
    }),
  );
  const release = await theOnly(join(directory, 'lib/modules'));
  return {
    key: basename(directory),
    release,
    image: join(directory, 'vmlinuz'),
    root: directory,
    headers: join(directory, 'usr/src', `linux-headers-${release}`),
  };
}

/** The headers expect to be in /usr/src; let them find each other wherever they are. */
async function relocate(makefile: string): Promise<void> {
  const text = await readFile(makefile, 'utf8');
  await writeFile(
    makefile,
    text.replace(/^include \/usr\/src\//m, 'include $(dir $(realpath $(lastword $(MAKEFILE_LIST))))../'),
  );
}

/**
 * The programs of linux-kbuild want the libraries of their own Debian release: each becomes a script that starts it
 * with those.
 */
async function wrapPrograms(part: string, pointerBits: 32 | 64): Promise<void> {
  const libraryFiles = await run('find', [join(part, 'libraries'), '-name', '*.so*'], {
    purpose: 'looking for libraries',
  });
  const all = libraryFiles.trim().split('\n');
  const loader = all.find((file) => /\/ld-linux[^/]*\.so\.\d$/.test(file));
  const folders = [...new Set(all.map(dirname))].filter(
    (folder) => !/\/(gconv|engines-\d|ossl-modules|audit)$/.test(folder),
  );
  if (loader === undefined) throw new Failure('the libraries of the kernel build tools have no dynamic loader');
  const fromHere = (path: string) => `"$root"${path.slice(part.length + 1)}`;
  const executable = ['-type', 'f', '-perm', '-u+x'];
  const files = await run('find', [join(part, 'usr/lib'), ...executable], { purpose: 'looking for the build tools' });
  for (const file of files.trim().split('\n')) {
    if (!(await isProgram(file))) continue;
    // Before 6.12 a program in front of several modposts chooses by the name it was started with.
    const variant = `.real-lsb-${pointerBits}`;
    const up = '../'.repeat(file.slice(part.length + 1).split('/').length - 1);
    const path = folders.map(fromHere).join(':');
    const command = existsSync(file + variant)
      ? `exec "$0${variant}" "$@"`
      : `root=\${0%/*}/${up}\nexec ${fromHere(loader)} --library-path ${path} "$0.elf" "$@"`;
    await rename(file, `${file}.elf`);
    await writeFile(file, `#!/bin/sh\n${command}\n`);
    await chmod(file, 0o755);
  }
}

async function isProgram(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return bytesRead === 4 && buffer.toString('latin1') === '\x7fELF';
  } finally {
    await file.close();
  }
}

async function theOnly(directory: string): Promise<string> {
  const names = await readdir(directory);
  if (names.length !== 1)
    throw new Failure(`one kernel expected in ${directory}, found: ${names.join(', ') || 'none'}`);
  return names[0] as string;
}
