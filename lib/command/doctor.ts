// SPDX-License-Identifier: MIT
import { accessSync, closeSync, existsSync, constants as fsConstants, openSync, readFileSync, readSync } from 'node:fs';
import { arch, constants as osConstants, release } from 'node:os';
import { gunzipSync } from 'node:zlib';
import {
  carveoutAdvice,
  cmaAdvice,
  kibibytes,
  limitAdvice,
  memoryInfo,
  moduleOf,
  openAdvice,
  ownerOf,
} from '../advice.js';
import type { SystemError } from '../errors.js';
import { json, paragraph, print } from './print.js';
import { type Args, UsageError } from './usage.js';

const { errno } = osConstants;

/** `warn`: something is not there that others may make up for. */
type Verdict = 'ok' | 'warn' | 'bad';

interface Check {
  subject: 'kernel' | 'modules' | 'devices' | 'memory';
  name: string;
  verdict: Verdict;
  found: string;
  /** what to do, where the verdict is not ok */
  cure?: string;
}

/** Bytes that there should be room for: a frame of 1920 by 1080 pixels of RGBA. */
const FRAME = 1920 * 1080 * 4;

export async function run({ values }: Args<'doctor'>): Promise<number> {
  const checks = [...kernel(values['kernel-config']), ...modules(), ...(await library())];
  const verdict = (['bad', 'warn'] as const).find((one) => checks.some((check) => check.verdict === one)) ?? 'ok';
  if (values.json) await print(json({ verdict, checks }));
  else await show(checks, verdict);
  return verdict === 'bad' ? 1 : 0;
}

async function show(checks: readonly Check[], verdict: Verdict): Promise<void> {
  let subject = '';
  for (const [i, check] of checks.entries()) {
    if (check.subject !== subject) await print(`${check.subject}\n`);
    subject = check.subject;
    const [first = '', ...rest] = paragraph(`${check.name}: ${check.found}`, 8).split(/(?<=\n)/);
    await print(`  ${check.verdict.padEnd(4)}  ${first.trimStart()}${rest.join('')}`);
    // One cure for several that follow each other is said once.
    const { cure } = check;
    if (cure !== undefined && cure !== checks[i + 1]?.cure) await print(paragraph(`-> ${cure}`, 8));
  }
  const count = (one: Verdict) => `${checks.filter((check) => check.verdict === one).length} ${one}`;
  await print(paragraph(`verdict: ${verdict} (${count('ok')}, ${count('warn')}, ${count('bad')})`, 0));
}

const OTHER_KERNEL = 'Boot a kernel that is built with it, such as that of scripts/guest --kernel lab.';

/** What a kernel lacks that is built without an option. */
const kernelOptions: readonly [option: string, verdict: Verdict, without: string][] = [
  ['CONFIG_DMA_SHARED_BUFFER', 'bad', 'no driver can make a dma-buf, and our modules cannot be loaded'],
  ['CONFIG_MODULES', 'warn', 'our modules cannot be loaded'],
  ['CONFIG_DMA_CMA', 'warn', 'contiguous buffers are small'],
  ['CONFIG_DMABUF_HEAPS', 'warn', 'the dma-heaps are those of ion_lite'],
  ['CONFIG_UDMABUF', 'warn', 'there is no heap udmabuf'],
  ['CONFIG_MEMFD_CREATE', 'warn', 'there is no heap memfd'],
  ['CONFIG_SYNC_FILE', 'warn', 'fences cannot be had as files'],
  ['CONFIG_DEBUG_FS', 'warn', 'dmabuf ps does not see what the kernel alone holds'],
];

/** Bytes a configuration has at most: many times what kernels have. */
const MAX_CONFIGURATION = 2 ** 24;

/** The bytes of a file, which may be one without an end. */
function readBounded(path: string): Buffer {
  const bytes = Buffer.allocUnsafe(MAX_CONFIGURATION + 1);
  const fd = openSync(path, 'r');
  try {
    let length = 0;
    for (let count = 1; count > 0 && length < bytes.length; length += count) {
      count = readSync(fd, bytes, length, bytes.length - length, null);
    }
    if (length > MAX_CONFIGURATION) throw new Error('it is too long');
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

function configuration(named: string | undefined): { path: string; text: string } | undefined {
  const usual = ['/proc/config.gz', `/boot/config-${release()}`, `/lib/modules/${release()}/config`];
  for (const path of named === undefined ? usual : [named]) {
    try {
      const bytes = readBounded(path);
      const zipped = bytes[0] === 0x1f && bytes[1] === 0x8b;
      const text = (zipped ? gunzipSync(bytes, { maxOutputLength: MAX_CONFIGURATION }) : bytes).toString();
      if (/^CONFIG_\w+=/m.test(text)) return { path, text };
      if (named !== undefined) throw new Error('it has no line CONFIG_…=');
    } catch (error) {
      if (named !== undefined) throw new UsageError(`--kernel-config ${named}: ${(error as Error).message}`);
    }
  }
  return undefined;
}

function kernel(named: string | undefined): Check[] {
  const subject = 'kernel';
  const checks: Check[] = [{ subject, name: 'release', verdict: 'ok', found: `Linux ${release()} for ${arch()}` }];
  const config = configuration(named);
  if (config === undefined) {
    checks.push({
      subject,
      name: 'configuration',
      verdict: 'warn',
      found: 'not in /proc/config.gz, /boot or /lib/modules',
      cure: 'Name the file it was built with by --kernel-config, or build it with CONFIG_IKCONFIG_PROC.',
    });
  } else {
    checks.push({ subject, name: 'configuration', verdict: 'ok', found: config.path });
    for (const [name, verdict, without] of kernelOptions) {
      const value = new RegExp(`^${name}=([ym])$`, 'm').exec(config.text)?.[1];
      if (value !== undefined) checks.push({ subject, name, verdict: 'ok', found: value });
      else {
        checks.push({ subject, name, verdict, found: `is not set: ${without}`, cure: OTHER_KERNEL });
      }
    }
  }
  checks.push(debugfs());
  return checks;
}

const BUFINFO = '/sys/kernel/debug/dma_buf/bufinfo';

function debugfs(): Check {
  const check = { subject: 'kernel', name: 'debugfs' } as const;
  try {
    accessSync(BUFINFO, fsConstants.R_OK);
    return { ...check, verdict: 'ok', found: `dmabuf ps reads ${BUFINFO}` };
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    return {
      ...check,
      verdict: 'warn',
      found: `dmabuf ps does not see what the kernel alone holds: ${BUFINFO} ${absent ? 'is not there' : 'cannot be read'}`,
      cure: absent ? 'Run `mount -t debugfs debugfs /sys/kernel/debug` as root.' : 'Run dmabuf ps as root.',
    };
  }
}

/** The devices modules of ours make, by the name of the module. */
const deviceOf = new Map(Object.entries(moduleOf).map(([path, name]) => [name, path]));

function modules(): Check[] {
  const installed = ifReadable(`/lib/modules/${release()}/modules.dep`);
  return ['dmabuf_core', ...deviceOf.keys()].map((name): Check => {
    const check = { subject: 'modules', name, verdict: 'warn' } as const;
    if (existsSync(`/sys/module/${name}`)) return { ...check, verdict: 'ok', found: 'is loaded' };
    if (!loadsModules()) return { ...check, found: 'this kernel is built without CONFIG_MODULES', cure: OTHER_KERNEL };
    if (!installed.includes(`/${name}.ko`)) {
      const cure =
        'Run `make -C kernel-modules` in the project, with the headers of this kernel installed, and `make -C kernel-modules install` as root; or boot the guest with scripts/guest.';
      return { ...check, found: `is not installed for Linux ${release()}`, cure };
    }
    const path = deviceOf.get(name);
    const cure = path === undefined ? 'It is loaded with any of the others.' : absence(path);
    return { ...check, found: 'is installed and not loaded', cure };
  });
}

const loadsModules = () => existsSync('/proc/modules');

/** What to do where a device is not there. */
const absence = (path: string) => (loadsModules() ? openAdvice(-errno.ENOENT, path) : OTHER_KERNEL) as string;

function ifReadable(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** What is asked by means of the library, whose native part may be missing. */
async function library(): Promise<Check[]> {
  try {
    await import('../native.js');
  } catch (error) {
    const [, found = String(error), cure = 'Install it again, with what it depends on: `npm install`.'] =
      /^(.*?)\. (Build it.*)$/s.exec((error as Error).message) ?? [];
    return [{ subject: 'devices', name: 'native part', verdict: 'bad', found, cure }];
  }
  return [...(await devices()), ...(await memory())];
}

async function devices(): Promise<Check[]> {
  const { Exporter, heaps } = await import('../index.js');
  const errors = new Map<string, SystemError | undefined>();
  for (const { path, dma, error } of heaps({ absent: true })) if (dma) errors.set(path, error);
  const ofHeaps = [...errors].map(([path, error]) => device(path, error));
  let failed: SystemError | undefined;
  try {
    Exporter.open().close();
  } catch (error) {
    failed = error as SystemError;
  }
  const usable = [...errors].filter(([, error]) => error === undefined).map(([path]) => path);
  const blocked = ofHeaps.find(({ verdict }) => verdict === 'bad');
  const any = { subject: 'devices', name: 'DMA memory' } as const;
  return [
    ...ofHeaps,
    device('/dev/exporter', failed),
    usable.length > 0
      ? { ...any, verdict: 'ok', found: `${usable.join(', ')} can be opened` }
      : {
          ...any,
          verdict: 'bad',
          found: 'there is no heap of it that this user can open',
          cure: blocked?.cure ?? absence('/dev/ion'),
        },
  ];
}

function device(path: string, error: SystemError | undefined): Check {
  const check = { subject: 'devices', name: path } as const;
  if (error === undefined) return { ...check, verdict: 'ok', found: `can be opened: ${ownerOf(path).words}` };
  if (error.code === 'ENOENT') {
    const found = loadsModules() ? 'is not there' : 'is not there, and this kernel is built without CONFIG_MODULES';
    return { ...check, verdict: 'warn', found, cure: absence(path) };
  }
  const cure = openAdvice(error.errno, path) ?? absence(path);
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    return { ...check, verdict: 'bad', found: `may not be opened by user ${process.getuid?.()}`, cure };
  }
  return { ...check, verdict: 'bad', found: error.message, cure };
}

const CLOSE = 'Close buffers that are no longer needed: `dmabuf ps` lists who holds them.';

function cma(): Check {
  const check = { subject: 'memory', name: 'CMA' } as const;
  const [total = 0, free = 0] = [memoryInfo('CmaTotal'), memoryInfo('CmaFree')];
  if (total === 0) return { ...check, verdict: 'warn', found: 'there is none', cure: cmaAdvice() };
  const found = `${kibibytes(free)} of ${kibibytes(total)} are free`;
  if (free >= FRAME) return { ...check, verdict: 'ok', found };
  const cure = `${CLOSE} ${cmaAdvice()}`;
  return { ...check, verdict: 'warn', found: `${found}, less than a frame of 1080p takes`, cure };
}

async function memory(): Promise<Check[]> {
  const { heapStats, PAGE_SIZE } = await import('../index.js');
  const { readLimit } = await import('../heap/stats.js');
  const subject = 'memory';
  const checks = [cma()];
  for (const [module, path] of deviceOf) {
    const limit = readLimit(path.replace('/dev', '/sys/class/misc'));
    // The exporter has one page, and that is all.
    if (limit === undefined || module === 'exporter') continue;
    const cure = limitAdvice(FRAME, limit);
    const found = `${kibibytes(limit.bytes)} of ${kibibytes(limit.maxBytes)} are handed out`;
    const verdict = cure === undefined ? 'ok' : 'warn';
    checks.push({ subject, name: `max_bytes of ${module}`, verdict, found, ...(cure === undefined ? {} : { cure }) });
  }
  for (const { path, name, size, largestFree } of heapStats()) {
    if (size === undefined || largestFree === undefined) continue;
    const found = `of ${kibibytes(size)} the largest free piece has ${kibibytes(largestFree)}`;
    const full = largestFree < PAGE_SIZE;
    const given = path === '/dev/cma_mem' ? 'in the device tree' : undefined;
    const cure = full ? { cure: carveoutAdvice(name, PAGE_SIZE, size, largestFree, given) } : {};
    checks.push({ subject, name: `${path} ${name}`, verdict: full ? 'warn' : 'ok', found, ...cure });
  }
  return checks;
}
