// SPDX-License-Identifier: MIT
// The guest's file systems: an image of Debian packages, and the archive the kernel starts from.
import { chmod, copyFile, cp, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { contentOf, packagesWithDependencies, unpack } from './apt.ts';
import { cached, hashOf } from './cache.ts';
import { Failure } from './failure.ts';
import type { KernelFiles } from './kernel.ts';
import type { Architecture, Machine, NodeLine } from './machines.ts';
import { fileOfPackage } from './npm-package.ts';
import { step } from './progress.ts';
import { projectRoot } from './project.ts';
import { run } from './run.ts';

const own = fileURLToPath(new URL('./guest-root/', import.meta.url));

/** What a script or a person at the prompt reaches for. libuv1-dev is for the bridge's cross build. */
const PROGRAMS =
  'nodejs busybox-static bash coreutils dash findutils grep gzip kmod libc-bin libuv1-dev procps sed util-linux'.split(
    ' ',
  );
/** A library that releases of Node.js take from the system. */
const RELEASES_NEED = 'libatomic1';
/** Busybox stands in where its own package would be large. */
const APPLETS =
  'awk clear diff hexdump hostname ifconfig ip killall less mount nc ping reset route tar time umount vi wget which xxd'.split(
    ' ',
  );

/** What teaches node TypeScript. */
const OWN_FILES = ['register.mjs', 'transform.mjs', 'hooks.mjs'];

/** Directories the guest does not need: documentation, translations, and headers but libuv's. */
const UNWANTED = ['usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/info', 'usr/share/nodejs/corepack'];

const FILES: Record<string, string> = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n',
  'etc/group': 'root:x:0:\nvideo:x:44:\nnogroup:x:65534:\n',
  'etc/hosts': '127.0.0.1 localhost guest\n',
  'etc/hostname': 'guest\n',
  'root/.bashrc': "PS1='guest:\\w# '\nalias ls='ls --color=auto'\n",
};

export interface Userland {
  image: string;
  /** The Debian packages it was made of. */
  packages: string;
  /** Headers of the libuv that the guest's node runs on. */
  uvInclude: string;
}

export async function userland(architecture: Architecture, { suite, release }: NodeLine): Promise<Userland> {
  const sources = [{ suite, architectures: [architecture.name] }];
  const debs = await packagesWithDependencies(
    `the guest's programs (${suite}, ${architecture.name})`,
    sources,
    release ? [...PROGRAMS, RELEASES_NEED] : PROGRAMS,
  );
  const esbuild = await esbuildFor(architecture);
  const node = release && (await fileOfPackage(release, 'bin/node', 400 << 20));
  const ofPackages = [esbuild, ...(node === undefined ? [] : [node])].map((path) => basename(dirname(path)));
  const sourcesOfOurs = [import.meta.filename, ...OWN_FILES.map((file) => join(own, file))];
  const key = [await contentOf(debs), ofPackages, await hashOf(sourcesOfOurs)];
  const directory = await cached('userland', key, 700 << 20, (part) =>
    step(`making the guest's root file system for ${architecture.name}`, async () => {
      const root = join(part, 'root');
      await mkdir(root);
      await unpack(debs, root);
      await rename(join(root, 'usr/include'), join(part, 'include'));
      for (const path of UNWANTED) await rm(join(root, path), { recursive: true, force: true });
      for (const [path, text] of Object.entries(FILES)) await writeFile(join(root, path), text);
      for (const path of ['project', 'share', 'node_modules', 'lib/modules', 'usr/lib/dmabuf', 'usr/local/bin']) {
        await mkdir(join(root, path), { recursive: true });
      }
      // So that a script anywhere says import … from 'dmabuf'.
      await symlink('/project', join(root, 'node_modules/dmabuf'));
      for (const applet of APPLETS) await symlink('/usr/bin/busybox', join(root, 'usr/local/bin', applet));
      for (const file of OWN_FILES) {
        await copyFile(join(own, file), join(root, 'usr/lib/dmabuf', file));
      }
      await copyFile(esbuild, join(root, 'usr/lib/dmabuf/esbuild'));
      await chmod(join(root, 'usr/lib/dmabuf/esbuild'), 0o755);
      if (node !== undefined) {
        await rm(join(root, 'usr/bin/node'));
        await copyFile(node, join(root, 'usr/bin/node'));
        await chmod(join(root, 'usr/bin/node'), 0o755);
      }
      // Uncompressed: an emulated processor unpacks slowly, and the host caches the file.
      const plain = ['-noappend', '-all-root', '-noI', '-noD', '-noF', '-noX', '-quiet', '-no-progress'];
      await run('mksquashfs', [root, join(part, 'image'), ...plain], {
        purpose: "making the guest's root file system",
      });
      await rm(root, { recursive: true });
    }),
  );
  return { image: join(directory, 'image'), packages: debs, uvInclude: join(directory, 'include') };
}

/** esbuild's program for the guest, as the lock file names it. */
async function esbuildFor({ esbuild: name }: Architecture): Promise<string> {
  const lock = JSON.parse(await readFile(join(projectRoot, 'package-lock.json'), 'utf8'));
  const entry = lock.packages[`node_modules/${name}`];
  if (!entry) throw new Failure(`package-lock.json does not know ${name}`);
  return await fileOfPackage({ name, version: entry.version, integrity: entry.integrity }, 'bin/esbuild', 40 << 20);
}

/** Drivers the guest cannot reach its root without, in no particular order. */
const DRIVERS = ['virtio_blk', 'virtio_console', 'squashfs', 'overlay', '9pnet_virtio', '9p'];
const BUS_DRIVERS = { device: 'virtio_mmio', pci: 'virtio_pci' };

/** The archive the kernel unpacks and starts: drivers, busybox, init and the agent. */
export async function initrd(
  kernel: KernelFiles,
  { architecture, userland: programsOf }: Machine,
  { packages: debs }: Userland,
): Promise<string> {
  const files = [import.meta.filename, join(own, 'init'), join(own, 'agent.c')];
  const directory = await cached('initrd', [kernel.key, await contentOf(debs), await hashOf(files)], 20 << 20, (part) =>
    step("making the guest's start archive", async () => {
      const root = join(part, 'root');
      for (const path of ['bin', 'modules', 'dev', 'proc', 'layer']) await mkdir(join(root, path), { recursive: true });
      await copyFile(join(own, 'init'), join(root, 'init'));
      await chmod(join(root, 'init'), 0o755);
      const programs = join(part, 'programs');
      await unpack(debs, programs, /^busybox-static_/);
      await cp(join(programs, 'usr/bin/busybox'), join(root, 'bin/busybox'));
      await compileAgent(programsOf, join(root, 'agent'));
      let order = 100;
      for (const driver of await withDependencies(kernel, [BUS_DRIVERS[architecture.bus], ...DRIVERS])) {
        await copyFile(driver, join(root, 'modules', `${order++}-${basename(driver)}`));
      }
      await run(
        'sh',
        ['-c', 'cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 >"$2"', 'sh', root, join(part, 'initrd')],
        { purpose: "making the guest's start archive" },
      );
      await rm(root, { recursive: true });
      await rm(programs, { recursive: true });
    }),
  );
  return join(directory, 'initrd');
}

async function compileAgent(architecture: Architecture, to: string): Promise<void> {
  const flags = ['-static', '-O2', '-Wall', '-Wextra', '-Werror'];
  await run(`${architecture.gnu}-gcc`, [...flags, '-o', to, join(own, 'agent.c')], { purpose: 'compiling the agent' });
}

/** Module files in an order in which they can be loaded. */
async function withDependencies(kernel: KernelFiles, names: string[]): Promise<string[]> {
  const files = new Set<string>();
  for (const name of names) {
    // Without what this machine's own configuration keeps from being loaded here.
    const args = ['-C', '/dev/null', '-d', kernel.root, '-S', kernel.release, '--show-depends', name];
    const shown = await run('modprobe', args, { purpose: `looking for the module ${name}` });
    for (const [, file] of shown.matchAll(/^insmod (\S+)/gm)) files.add(file as string);
    if (!/^(insmod|builtin) /m.test(shown)) throw new Failure(`kernel ${kernel.release} has no ${name}`);
  }
  return [...files];
}
