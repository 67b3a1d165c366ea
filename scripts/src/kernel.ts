// SPDX-License-Identifier: MIT
// A stock Debian kernel: its image, its modules and what it takes to build more of them.
import { existsSync } from 'node:fs';
import { chmod, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { contentOf, ownArchitecture, packages, unpack } from './apt.ts';
import { cached, hashOf } from './cache.ts';
import { Failure } from './failure.ts';
import { builtKernel } from './lab-kernel.ts';
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
  if (kernel.suite === undefined) return builtKernel(kernel.name, architecture);
  return stockKernel(kernel, kernel.suite, architecture);
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
  const here = await ownArchitecture();
  const there = architecture.name;
  const sources = [{ suite, architectures: [...new Set([there, here])] }];
  const debs = await packages(
    `kernel ${kernel.name} for ${there}`,
    sources,
    { flavour, libraries: true },
    async (depends) => {
      const one = async (from: string, wanted: RegExp) => (await leadsTo(depends, from, wanted))[0] as string;
      const image = await one(`linux-image-${flavour}:${there}`, /^linux-image-\d/);
      const [line] = kernel.name.split('-') as [string];
      if (!image.startsWith(`linux-image-${line}.`)) {
        throw new Failure(
          `Debian's ${suite} has no kernel ${line} any more, it has ${image.replace('linux-image-', '')}`,
        );
      }
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

  const directory = await cached(
    'kernel',
    [await contentOf(debs), await hashOf([import.meta.filename])],
    1 << 30,
    (part) =>
      step(`unpacking kernel ${kernel.name} for ${there}`, async () => {
        await unpack(debs, part, /^linux-/);
        const modules = join(part, 'lib/modules');
        if (!existsSync(modules)) {
          await mkdir(dirname(modules));
          await rename(join(part, 'usr/lib/modules'), modules);
        }
        const release = await theOnly(modules);
        // Links into /usr/src of a machine these headers are not installed on; and what boards boot with.
        for (const name of ['build', 'source', 'dtb'])
          await rm(join(modules, release, name), { recursive: true, force: true });
        const places = [join(part, 'boot', `vmlinuz-${release}`), join(modules, release, 'vmlinuz')];
        await rename(places.find(existsSync) ?? (places[0] as string), join(part, 'vmlinuz'));
        const headers = join(part, 'usr/src', `linux-headers-${release}`);
        await relocate(join(headers, 'Makefile'));
        await forOlderCompilers(join(headers, 'include'));
        await unpack(debs, join(part, 'libraries'), /^(?!linux-)/);
        await wrapPrograms(part, architecture);
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
  const here = '$(dir $(realpath $(lastword $(MAKEFILE_LIST))))';
  await writeFile(
    makefile,
    text
      .replace(/^include \/usr\/src\//m, `include ${here}../`)
      .replace(/^KBUILD_OUTPUT=.*/m, `KBUILD_OUTPUT := ${here}`),
  );
}

/**
 * What the kernel's configuration says its compiler can do and the one of Debian 12 (gcc 12) cannot: attributes that
 * check or hint, alignment that older ones do another way.
 */
const LATER = [
  'CC_HAS_ASSUME',
  'CC_HAS_COUNTED_BY',
  'CC_HAS_COUNTED_BY_PTR',
  'CC_HAS_MIN_FUNCTION_ALIGNMENT',
  'CC_HAS_MULTIDIMENSIONAL_NONSTRING',
];
/** What the makefiles are not to try: the headers lack vmlinux, which BTF is made from. struct module depends on it. */
const NOT_MADE = ['DEBUG_INFO_BTF_MODULES'];

async function forOlderCompilers(include: string): Promise<void> {
  const remove = async (file: string, options: string[]) => {
    const text = await readFile(join(include, file), 'utf8');
    const lines = new RegExp(`^(#define )?CONFIG_(${options.join('|')})[ =].*\\n`, 'gm');
    await writeFile(join(include, file), text.replace(lines, ''));
  };
  await remove('config/auto.conf', [...LATER, ...NOT_MADE]);
  await remove('generated/autoconf.h', LATER);
}

/**
 * The programs of linux-kbuild want the libraries of their own Debian release: each becomes a script that starts it
 * with those.
 */
async function wrapPrograms(part: string, { pointerBits, kernelName }: Architecture): Promise<void> {
  // Links among them end in this machine's own /lib: only files count.
  const libraryFiles = await run('find', [join(part, 'libraries'), '-type', 'f', '-name', '*.so*'], {
    purpose: 'looking for libraries',
  });
  const all = libraryFiles.trim().split('\n').sort();
  const loader = all.find((file) => /\/ld-[^/]*\.so(\.\d+)?$/.test(file));
  const folders = [...new Set(all.map(dirname))].filter(
    (folder) => !/\/(gconv|engines-\d|ossl-modules|audit)$/.test(folder),
  );
  if (loader === undefined) throw new Failure('the libraries of the kernel build tools have no dynamic loader');
  const fromHere = (path: string) => `"$root"${path.slice(part.length + 1)}`;
  const executable = ['-type', 'f', '-perm', '-u+x'];
  const files = await run('find', [join(part, 'usr/lib'), ...executable], { purpose: 'looking for the build tools' });
  for (const file of files.trim().split('\n')) {
    if (!(await isProgram(file))) continue;
    // A program in front of several (modpost before 6.12, objtool since 7.2) chooses by the name it was started with.
    const variant = [`.real-lsb-${pointerBits}`, `.real-${kernelName}`].find((end) => existsSync(file + end));
    const up = '../'.repeat(file.slice(part.length + 1).split('/').length - 1);
    const path = folders.map(fromHere).join(':');
    const command = variant
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
