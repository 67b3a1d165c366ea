// SPDX-License-Identifier: MIT
// A stock Debian kernel: its image, its modules and what it takes to build more of them.
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
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

export async function stockKernel(kernel: Kernel, architecture: Architecture): Promise<KernelFiles> {
  const flavour = kernel.flavour[architecture.name] as string;
  const build = await run('dpkg', ['--print-architecture'], { purpose: "asking for this machine's architecture" });
  const here = build.trim();
  const sources = [{ suite: kernel.suite, architectures: [architecture.name, here] }];
  const debs = await packages(`kernel ${kernel.name} for ${architecture.name}`, sources, flavour, async (depends) => {
    const only = async (from: string, like: RegExp) => {
      const found = (await depends(from)).find((name) => like.test(name));
      if (!found) throw new Failure(`Debian's ${from} does not lead to a kernel package any more`);
      return found;
    };
    const image = await only(`linux-image-${flavour}:${architecture.name}`, /^linux-image-\d/);
    const headers = await only(`linux-headers-${flavour}:${architecture.name}`, /^linux-headers-\d/);
    const common = await only(`${headers}:${architecture.name}`, /^linux-headers-.*-common/);
    const kbuild = await only(`${headers}:${architecture.name}`, /^linux-kbuild-/);
    return [`${image}:${architecture.name}`, `${headers}:${architecture.name}`, common, `${kbuild}:${here}`];
  });

  const directory = await cached('kernel', [basename(debs), await hashOf([import.meta.filename])], 400 << 20, (part) =>
    step(`unpacking kernel ${kernel.name} for ${architecture.name}`, async () => {
      await unpack(debs, part);
      const release = await theOnly(join(part, 'lib/modules'));
      // Links into /usr/src of a machine these headers are not installed on.
      for (const link of ['build', 'source']) await rm(join(part, 'lib/modules', release, link), { force: true });
      await rename(join(part, 'boot', `vmlinuz-${release}`), join(part, 'vmlinuz'));
      await relocate(join(part, 'usr/src', `linux-headers-${release}`, 'Makefile'));
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

async function theOnly(directory: string): Promise<string> {
  const names = await readdir(directory);
  if (names.length !== 1)
    throw new Failure(`one kernel expected in ${directory}, found: ${names.join(', ') || 'none'}`);
  return names[0] as string;
}
