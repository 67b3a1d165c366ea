// SPDX-License-Identifier: MIT
// Kernels this project configures and builds from Debian's source package: kernels/NAME.config says what is in one.
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { contentOf } from './apt.ts';
import { cached, hashOf } from './cache.ts';
import { Failure } from './failure.ts';
import { requirePackages } from './host.ts';
import type { KernelFiles } from './kernel.ts';
import { sourcePackage, unpackSource } from './kernel-source.ts';
import type { Architecture } from './machines.ts';
import { step } from './progress.ts';
import { run } from './run.ts';

const LINE = '6.12';

const folder = fileURLToPath(new URL('../kernels/', import.meta.url));

/** Debian packages this machine needs to build a kernel, besides the architecture's compiler. */
const kernelTools = 'bc bison flex gcc libc6-dev kmod make'.split(' ');

/** What an allnoconfig becomes a kernel by; a later fragment overrides an earlier one. */
const fragmentsOf: Record<string, string[]> = { lab: ['lab'], debug: ['lab', 'debug'] };

/** The target of the kernel makefiles, and where it puts the image QEMU starts. */
const images: Record<string, string> = { armhf: 'zImage', arm64: 'Image' };

/** About as many lines as make prints: what progress is measured by. */
const LINES_OF_MAKE = 1700;

/** A source tree and its objects. */
const ROOM = 3 << 30;

/** Parts of the tree a module's build needs after the kernel's own. */
const headerParts = (tree: string) => [
  '.config',
  'Makefile',
  'Module.symvers',
  `arch/${tree}/Makefile`,
  `arch/${tree}/include`,
  'include',
  'scripts',
];

export async function builtKernel(name: string, architecture: Architecture): Promise<KernelFiles> {
  const fragments = fragmentsOf[name];
  const image = images[architecture.name];
  if (!fragments) throw new Failure(`kernel ${name}: ${Object.keys(fragmentsOf).join(', ')} can be built here`);
  if (!image) {
    throw new Failure(
      `there is no kernel ${name} for ${architecture.name}: it is for ${Object.keys(images).join(', ')}`,
    );
  }
  const files = fragments.flatMap((one) => [`${one}.config`, `${one}-${architecture.name}.config`]);
  const paths = files.map((file) => join(folder, file));
  const compiler = await run(`${architecture.gnu}-gcc`, ['-dumpfullversion'], {
    purpose: 'asking the compiler for its version',
  });
  const key = [await contentOf(await sourcePackage(LINE)), compiler, await hashOf([import.meta.filename, ...paths])];
  const directory = await cached(`built-${architecture.name}`, key, ROOM, async (part) => {
    await requirePackages(kernelTools);
    const tree = join(part, 'tree');
    await step(`unpacking the sources of kernel ${LINE}`, () => unpackSource(LINE, tree));
    const make = maker(tree, architecture);
    await step(`building the ${name} kernel for ${architecture.name}`, async ({ progress }) => {
      const texts = await Promise.all(paths.map((path) => readFile(path, 'utf8')));
      await configure(tree, `${texts.join('')}CONFIG_LOCALVERSION="-${name}"\n`, make);
      let lines = 0;
      await make([image, 'modules'], () => progress(Math.min(++lines / LINES_OF_MAKE, 0.99)));
      await make([`INSTALL_MOD_PATH=${part}`, 'modules_install']);
    });
    await rename(join(tree, 'arch', architecture.kernelName, 'boot', image), join(part, 'vmlinuz'));
    await keepHeaders(tree, join(part, 'headers'), architecture.kernelName);
    await rm(tree, { recursive: true });
    for (const link of ['build', 'source'])
      await rm(join(part, 'lib/modules', await only(part), link), { force: true });
  });
  return {
    key: basename(directory),
    release: await only(directory),
    image: join(directory, 'vmlinuz'),
    root: directory,
    headers: join(directory, 'headers'),
  };
}

type Make = (words: string[], each?: (line: string) => void) => Promise<string>;

function maker(tree: string, architecture: Architecture): Make {
  const variables = {
    ARCH: architecture.kernelName,
    CROSS_COMPILE: `${architecture.gnu}-`,
    KBUILD_BUILD_USER: 'dmabuf',
    KBUILD_BUILD_HOST: 'dmabuf',
  };
  const fixed = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
  // Compilers complain on standard error: what make prints is counted only.
  return (words, each = () => {}) =>
    run('sh', ['-c', 'exec make "$@" >&3', 'sh', '-C', tree, `-j${availableParallelism()}`, ...fixed, ...words], {
      purpose: `building kernel ${LINE}`,
      lines: { fd: 3, each },
    });
}

/** Makes .config of fragments; each line of theirs must be in it. */
async function configure(tree: string, fragments: string, make: Make): Promise<void> {
  const wanted = join(tree, 'fragments');
  await writeFile(wanted, fragments);
  await make([`KCONFIG_ALLCONFIG=${wanted}`, 'allnoconfig']);
  const got = optionsOf(await readFile(join(tree, '.config'), 'utf8'));
  const lost = [...optionsOf(fragments)].filter(([name, value]) => (got.get(name) ?? 'n') !== value);
  if (lost.length === 0) return;
  const lines = lost.map(([name, value]) => `${name}=${value}, got ${got.get(name) ?? 'n'}`);
  throw new Failure(
    `kernel ${LINE} does not take these options: something they depend on is missing\n${lines.join('\n')}`,
  );
}

function optionsOf(config: string): Map<string, string> {
  const lines = config.matchAll(/^(?:(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set)$/gm);
  return new Map([...lines].map(([, name, value, unset]) => [name ?? (unset as string), value ?? 'n']));
}

/** Moves what builds of modules need out of the tree. */
async function keepHeaders(tree: string, to: string, kernelName: string): Promise<void> {
  for (const path of headerParts(kernelName)) {
    await mkdir(join(to, path, '..'), { recursive: true });
    await rename(join(tree, path), join(to, path));
  }
  // Only device trees need these, and links in them end outside.
  for (const path of ['include/dt-bindings', 'scripts/dtc']) await rm(join(to, path), { recursive: true });
}

/** The only release below lib/modules. */
async function only(directory: string): Promise<string> {
  return (await readdir(join(directory, 'lib/modules')))[0] as string;
}
