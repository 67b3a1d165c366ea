// SPDX-License-Identifier: MIT
// The kernel's own tests of ION and of dma-heaps, compiled from Debian's packages of its sources.
import { basename, join } from 'node:path';
import { cached, hashOf } from './cache.ts';
import { requirePackages } from './host.ts';
import { sourceParts } from './kernel-source.ts';
import { type Architecture, compilersFor } from './machines.ts';
import { step } from './progress.ts';
import { run } from './run.ts';

const SELFTESTS = 'tools/testing/selftests';

interface Selftests {
  /** The kernel whose sources have them. */
  line: string;
  folder: string;
  /** Files beside it that its sources include. */
  more: string[];
  /** Sources of each program. */
  programs: Record<string, string[]>;
  flags: string[];
}

const withHelpers = (name: string) => [`${name}.c`, 'ionutils.c', 'ipcsocket.c'];

const ion: Selftests = {
  line: '5.10',
  folder: `${SELFTESTS}/android/ion`,
  more: [],
  programs: {
    ionapp_export: withHelpers('ionapp_export'),
    ionapp_import: withHelpers('ionapp_import'),
    ionmap_test: withHelpers('ionmap_test'),
  },
  // A header of theirs defines a variable, and ionmap_test compares a name without its end.
  flags: ['-fcommon', '-ftrivial-auto-var-init=zero'],
};

const dmabufHeaps: Selftests = {
  line: '6.12',
  folder: `${SELFTESTS}/dmabuf-heaps`,
  more: [`${SELFTESTS}/kselftest.h`],
  programs: { 'dmabuf-heap': ['dmabuf-heap.c'] },
  flags: [],
};

/** A directory with static programs for an architecture. */
async function compiled({ line, folder, more, programs, flags }: Selftests, target: Architecture): Promise<string> {
  const sources = await sourceParts(line, [folder, ...more]);
  const key = [basename(sources), target.name, await hashOf([import.meta.filename])];
  return cached('selftests', key, 20 << 20, (part) =>
    step(`compiling ${basename(folder)} selftests of kernel ${line} for ${target.name}`, async () => {
      await requirePackages(compilersFor(target));
      for (const [name, files] of Object.entries(programs)) {
        const from = files.map((file) => join(sources, folder, file));
        await run(`${target.gnu}-gcc`, ['-static', '-O2', ...flags, '-o', join(part, name), ...from], {
          purpose: `compiling ${name}`,
        });
      }
    }),
  );
}

/** ionapp_export, ionapp_import and ionmap_test. */
export const ionSelftests = (target: Architecture) => compiled(ion, target);

/** dmabuf-heap. */
export const dmabufHeapsSelftests = (target: Architecture) => compiled(dmabufHeaps, target);
