// SPDX-License-Identifier: MIT
// What this project builds for a guest: the kernel modules and the bridge.
import { cp, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { cached, hashOf } from './cache.ts';
import type { KernelFiles } from './kernel.ts';
import type { Architecture } from './machines.ts';
import { step } from './progress.ts';
import { projectRoot } from './project.ts';
import { run } from './run.ts';

const built = (name: string) =>
  /\.(o|ko|mod|mod\.c|cmd|a|gcno|gcda)$|^(Module\.symvers|modules\.order|build)$|^\..*\.cmd$/.test(name);

/** Without calls of functions that the compiler's library has, and no kernel. */
const atomicCounters = ({ name }: Architecture) =>
  ['-fprofile-update=atomic', ...(name === 'arm64' ? ['-mno-outline-atomics'] : [])].join(' ');

/** Where to find what gcov has to know of each object, below what {@link buildModules} returns. */
export const GCNO = 'gcno';

/**
 * A directory with lib/modules/RELEASE: the kernel's own modules, and ours below extra/. Where the kernel can tell
 * which lines ran, ours count theirs.
 */
export async function buildModules(
  kernel: KernelFiles,
  architecture: Architecture,
  source = join(projectRoot, 'kernel-modules'),
): Promise<string> {
  const config = await readFile(join(kernel.headers, '.config'), 'utf8');
  const counted = /^CONFIG_GCOV_KERNEL=y$/m.test(config);
  return cached('modules', [kernel.key, await hashOf([import.meta.filename, source], built)], 400 << 20, (part) =>
    step(`building the kernel modules for ${kernel.release}`, async () => {
      const purpose = 'building the kernel modules';
      const work = join(part, 'work');
      await cp(source, work, { recursive: true, filter: (path) => !built(basename(path)) });
      const variables = {
        KDIR: kernel.headers,
        ARCH: architecture.kernelName,
        CROSS_COMPILE: `${architecture.gnu}-`,
        CC: `${architecture.gnu}-gcc`,
        // Plain counters lose counts where processors meet, and gcov calculates with differences of them.
        ...(counted ? { GCOV_PROFILE: 'y', KCFLAGS: atomicCounters(architecture) } : {}),
      };
      const words = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
      await run('make', ['-C', work, `-j${availableParallelism()}`, ...words], { purpose });
      // The kernel's modules are linked, not copied: modprobe then finds all of them in one place.
      const tree = join('lib/modules', kernel.release);
      await mkdir(join(part, 'lib/modules'), { recursive: true });
      await run('cp', ['-al', join(kernel.root, tree), join(part, tree)], { purpose });
      const extra = join(part, tree, 'extra');
      await mkdir(join(extra, 'selftest'), { recursive: true });
      for (const folder of await readdir(work, { withFileTypes: true })) {
        if (!folder.isDirectory()) continue;
        const keep = join(part, GCNO, folder.name);
        if (counted) await mkdir(keep, { recursive: true });
        for (const file of await readdir(join(work, folder.name))) {
          const to = folder.name === 'selftest' ? join(extra, 'selftest', file) : join(extra, file);
          if (file.endsWith('.ko')) await rename(join(work, folder.name, file), to);
          if (file.endsWith('.gcno') && counted) await rename(join(work, folder.name, file), join(keep, file));
        }
      }
      for (const list of await readdir(join(part, tree))) {
        // depmod would write through the links into the kernel's entry.
        if (/^modules\..*(dep|alias|symbols|devname|softdep|weakdep|bin)/.test(list)) await rm(join(part, tree, list));
      }
      await run('depmod', ['-b', part, kernel.release], { purpose });
      await rm(work, { recursive: true });
    }),
  );
}

/** A directory to mount over build/: Release/dmabuf.node for the guest. */
export async function buildBridge(architecture: Architecture, uvInclude: string): Promise<string> {
  const ours = ['native', 'kernel-modules/include/uapi', 'package.json', 'package-lock.json'];
  const inputs = [import.meta.filename, uvInclude, ...ours.map((name) => join(projectRoot, name))];
  return cached('bridge', [architecture.name, await hashOf(inputs, built)], 50 << 20, (part) =>
    step(`building the bridge for ${architecture.name}`, async () => {
      const defines = {
        CMAKE_TOOLCHAIN_FILE: join(projectRoot, 'native/toolchains', `${architecture.name}.cmake`),
        DMABUF_UV_INCLUDE: uvInclude,
      };
      const words = Object.entries(defines).map(([name, value]) => `--CD${name}=${value}`);
      const args = ['--directory', join(projectRoot, 'native'), '--out', join(part, 'build'), '--config', 'Release'];
      await run('npx', ['--no-install', 'cmake-js', 'compile', ...args, ...words], {
        cwd: projectRoot,
        purpose: 'building the bridge',
      });
      await mkdir(join(part, 'Release'));
      await rename(join(part, 'build/Release/dmabuf.node'), join(part, 'Release/dmabuf.node'));
      await rm(join(part, 'build'), { recursive: true });
    }),
  );
}
