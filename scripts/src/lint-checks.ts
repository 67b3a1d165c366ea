// SPDX-License-Identifier: MIT
// What lint checks. Findings are what is shown to whoever has to mend them; none is an empty string.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { cached, hashOf } from './cache.ts';
import { Failure } from './failure.ts';
import { kernelFiles } from './kernel.ts';
import { sourceParts } from './kernel-source.ts';
import { chooseMachine, toolsFor } from './machines.ts';
import { ensureDist, projectRoot } from './project.ts';
import { run } from './run.ts';

export interface Check {
  title: string;
  /** Debian packages of this machine it needs. */
  packages: string[];
  findings: () => Promise<string>;
}

const inProject = (path: string) => join(projectRoot, path);

let free = availableParallelism();
const waiting: (() => void)[] = [];

/** What a program prints that does not exit with 0. */
const complaints = (program: string, args: string[]) => said(program, args, true);

/** What a program prints. No more of them run at once than there are processors. */
async function said(program: string, args: string[], onlyIfItFails = false): Promise<string> {
  if (free > 0) free--;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    return await new Promise((resolve) =>
      execFile(program, args, { cwd: projectRoot, maxBuffer: 1 << 26 }, (error, stdout, stderr) =>
        resolve(error || !onlyIfItFails ? `${stdout}${stderr}`.trim() || (error?.message ?? '') : ''),
      ),
    );
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free++;
  }
}

/** Files of the project, those not added to git yet too. */
async function files(...patterns: string[]): Promise<string[]> {
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', ...patterns];
  const listed = await run('git', ['-C', projectRoot, ...args], { purpose: 'listing the files of the project' });
  return listed.split('\0').filter((file) => file && existsSync(inProject(file)));
}

const firstLines = (file: string) => readFileSync(inProject(file), 'latin1').split('\n', 3);

/** A check that takes long runs again when what it looks at has changed, or the program that looks. */
async function unlessClean(
  program: string,
  inputs: string[],
  kernel: string | null,
  look: (directory: string) => Promise<string>,
): Promise<string> {
  const version = await run(program, ['--version'], { purpose: `asking ${program} for its version` });
  const key = [version, await hashOf([import.meta.filename, ...inputs.map(inProject)]), kernel, projectRoot];
  let found = '';
  const remember = async (directory: string) => {
    found = await look(directory);
    if (found) throw new Failure(found);
    for (const name of await readdir(directory)) await rm(join(directory, name), { recursive: true });
  };
  await cached(program, key, 50 << 20, remember).catch((error) => {
    if (!found) throw error;
  });
  return found;
}

async function shellcheck(): Promise<string> {
  const all = await files();
  const shell = all.filter((file) => file.endsWith('.sh') || /^#!.*\b(ba|da)?sh\b/.test(firstLines(file)[0] ?? ''));
  return complaints('shellcheck', ['-x', ...shell]);
}

/** Files that have no place for a comment, or nothing to protect. */
const NO_LICENCE = /(^|\/)(\.gitignore|LICENSE|sources\.txt)$|\.(json|md|png|svg)$/;
const LICENCES = {
  'kernel-modules/include/uapi/': '(GPL-2.0-only WITH Linux-syscall-note) OR MIT',
  'kernel-modules/selftest/edu_importer.h': '(GPL-2.0-only WITH Linux-syscall-note) OR MIT',
  'kernel-modules/': 'GPL-2.0-only',
  '': 'MIT',
};

async function spdx(): Promise<string> {
  const wrong = [];
  for (const file of await files()) {
    if (NO_LICENCE.test(file)) continue;
    const [, licence] = Object.entries(LICENCES).find(([folder]) => file.startsWith(folder)) as [string, string];
    // Other comments that tools want at the top may come before it.
    const said = /SPDX-License-Identifier: (.*?)(?: \*\/)?$/m.exec(firstLines(file).join('\n'))?.[1];
    if (said !== licence) wrong.push(`${file}: "SPDX-License-Identifier: ${licence}" is expected at its top`);
  }
  return wrong.join('\n');
}

/** A device tree that is nothing but an overlay. */
const BARE = '/dts-v1/; / { model = "bare"; compatible = "bare"; #address-cells = <2>; #size-cells = <2>; };';

/** Overlays of one heap, or as many, besides the board's. */
const heapsOverlay = (heaps: string) => `/dts-v1/; /plugin/; &{/} {
  reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges; r: r@60000000 { reg = <0 0x60000000 0 0x1000>; }; };
  ion-heaps { compatible = "dmabuf,ion-heaps"; #address-cells = <1>; #size-cells = <0>; ${heaps} };
};`;
const heapNode = (type: string, more = '', id = 1) =>
  `heap@${id} { reg = <${id}>; label = "h${id}"; dmabuf,type = "${type}"; ${more} };`;
const SIZE = 'dmabuf,size = <4096>;';
const REGION = 'memory-region = <&r>;';
/** The end of the heaps, and memory of cma_mem. */
const cmaMem = (region: string) => `${heapNode('dma')} }; cma-mem { compatible = "dmabuf,cma-mem"; ${region}`;
const goodHeaps = [
  cmaMem(REGION),
  `dmabuf,order = <2 1 3>; ${heapNode('carveout', SIZE)} ${heapNode('protected', SIZE, 2)} ${heapNode('iommu', '', 3)}`,
  `${heapNode('carveout', REGION)} ${heapNode('protected', '', 2)}`,
];
const wrongHeaps = [
  cmaMem(''),
  cmaMem(REGION + SIZE),
  heapNode('carveout'),
  heapNode('carveout', SIZE + REGION),
  heapNode('system', SIZE),
  heapNode('dma', REGION),
  heapNode('chunk'),
  `dmabuf,order = <32>; ${heapNode('dma')}`,
];

/** The bindings say what they should, the overlay of the tests what the bindings say, and so do others that are right. */
async function bindings(): Promise<string> {
  const folder = 'kernel-modules/bindings';
  const directory = await mkdtemp(join(tmpdir(), 'dmabuf-bindings-'));
  const made = (name: string) => join(directory, name);
  const dtc = (from: string, to: string) =>
    complaints('dtc', ['-q', '-@', '-I', 'dts', '-O', 'dtb', '-o', made(to), from]);
  const findings = async (name: string, source: string) => [
    await dtc(source, `${name}.dtbo`),
    await complaints('fdtoverlay', ['-i', made('bare.dtb'), '-o', made(`${name}.dtb`), made(`${name}.dtbo`)]),
    // It says what is wrong, and ends with 0.
    await said('dt-validate', ['-s', made('schema.json'), '-l', 'dmabuf', made(`${name}.dtb`)]),
  ];
  const ofHeaps = async (name: string, heaps: string) => {
    await writeFile(made(`${name}.dtso`), heapsOverlay(heaps));
    return findings(name, made(`${name}.dtso`));
  };
  try {
    await writeFile(made('bare.dts'), BARE);
    const found = [
      await complaints('dt-doc-validate', ['-u', folder, folder]),
      await dtc(made('bare.dts'), 'bare.dtb'),
      await complaints('dt-mk-schema', ['-j', '-o', made('schema.json'), folder]),
      ...(await findings('board', 'test/guest/board/board.dtso')),
      ...(await Promise.all(goodHeaps.map((heaps, i) => ofHeaps(`good${i}`, heaps)))).flat(),
    ];
    const judged = await Promise.all(wrongHeaps.map((heaps, i) => ofHeaps(`wrong${i}`, heaps)));
    for (const [i, [compiled, put, judgement]] of judged.entries()) {
      if (compiled || put) found.push(`${compiled}${put}`);
      else if (!judgement) found.push(`${folder} has nothing to say of ${wrongHeaps[i]}`);
    }
    return found.filter(Boolean).join('\n');
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function checkpatch(): Promise<string> {
  const parts = ['checkpatch.pl', 'spelling.txt', 'const_structs.checkpatch'].map((name) => `scripts/${name}`);
  const script = join(await sourceParts('6.12', parts), 'scripts/checkpatch.pl');
  return complaints('perl', [script, '--no-tree', '-f', '--strict', '--terse', ...(await files('kernel-modules'))]);
}

/** The kernel whose headers sparse reads. */
const sparseOver = chooseMachine('armhf', '6.1');

async function sparse(): Promise<string> {
  const { architecture, kernel } = sparseOver;
  const { headers, key } = await kernelFiles(kernel, architecture);
  const modules = await files('kernel-modules');
  return unlessClean('sparse', modules, key, async (directory) => {
    for (const file of modules) await cp(inProject(file), join(directory, file));
    const work = join(directory, 'kernel-modules');
    const words = {
      KDIR: headers,
      ARCH: architecture.kernelName,
      CROSS_COMPILE: `${architecture.gnu}-`,
      CC: `${architecture.gnu}-gcc`,
      C: '2',
      // The makefiles go on after a warning.
      CHECK: 'sparse -Wsparse-error',
    };
    const args = Object.entries(words).map(([name, value]) => `${name}=${value}`);
    const found = await complaints('make', ['-s', '-k', '-C', work, ...args]);
    return found.replaceAll(work, 'kernel-modules').replaceAll(/^make.*\n?/gm, '') || found;
  });
}

async function clangTidy(): Promise<string> {
  const own = ['native', 'kernel-modules/include/uapi', '.clang-tidy', 'package-lock.json'];
  return unlessClean('clang-tidy', own, null, async (directory) => {
    const defines = { CMAKE_EXPORT_COMPILE_COMMANDS: 'ON', DMABUF_UV_INCLUDE: '/usr/include' };
    const words = Object.entries(defines).map(([name, value]) => `--CD${name}=${value}`);
    await run('npx', ['--no-install', 'cmake-js', 'configure', '-d', inProject('native'), '-O', directory, ...words], {
      cwd: projectRoot,
      purpose: 'asking CMake how the bridge is compiled',
    });
    const sources = await files('native/src/*.cc');
    const found = await Promise.all(
      sources.map((file) => complaints('clang-tidy', ['-p', directory, '--quiet', file])),
    );
    // A header's findings come with each file that includes it.
    const all = [...new Set(found)].join('\n');
    return all.replaceAll(/^\d+ warnings? .*\n?/gm, '') || all;
  });
}

/** What is missing or wrong in the comments of what programs can import. */
async function apiComments(): Promise<string> {
  // Loading it takes longer than most checks.
  const { extractApi } = await import('./api-model.ts');
  const directory = await mkdtemp(join(tmpdir(), 'dmabuf-api-'));
  try {
    return (await extractApi(directory)).join('\n');
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Those that take longest first. */
export const checks: Record<string, Check> = {
  'clang-tidy': {
    title: 'mistakes in C++',
    packages: ['clang-tidy', 'cmake', 'g++', 'libuv1-dev', 'make'],
    findings: clangTidy,
  },
  sparse: {
    title: 'pointers of user space, and more, in the kernel modules',
    packages: [...toolsFor(sparseOver), 'sparse'],
    findings: sparse,
  },
  checkpatch: {
    title: 'style of the kernel modules',
    packages: ['perl', 'xz-utils'],
    findings: checkpatch,
  },
  bindings: {
    title: 'device-tree bindings, and the board of the tests',
    packages: ['device-tree-compiler', 'dt-schema'],
    findings: bindings,
  },
  tsc: {
    title: 'types of TypeScript',
    packages: [],
    findings: async () => {
      // Tests and examples import the library by its name.
      await ensureDist();
      return complaints(inProject('node_modules/.bin/tsc'), ['-p', 'tsconfig.json']);
    },
  },
  api: {
    title: 'comments of the API',
    packages: [],
    findings: apiComments,
  },
  biome: {
    title: 'style of TypeScript',
    packages: [],
    findings: () =>
      complaints(inProject(`node_modules/@biomejs/cli-linux-${process.arch}/biome`), ['check', '--error-on-warnings']),
  },
  shellcheck: {
    title: 'shell scripts',
    packages: ['shellcheck'],
    findings: shellcheck,
  },
  spdx: {
    title: 'licence of each file',
    packages: [],
    findings: spdx,
  },
};
