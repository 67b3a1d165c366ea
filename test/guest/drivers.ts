// SPDX-License-Identifier: MIT
/** Drivers of the kernel, for the time of a suite, and those of them that import dma-bufs. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { release } from 'node:os';
import type { DmaBuf } from 'dmabuf';
import { describeModules, eventually, load, program, unload } from './support.ts';

/** Kernels that this project builds have all of them; Debian's do not. */
const built = /-(lab|debug)$/.test(release());

/** Whether the kernel has a driver; modinfo would say no of a compressed one, which only the kernel can read. */
export const isThere = (driver: string) =>
  spawnSync('modprobe', ['--dry-run', driver], { stdio: 'ignore' }).status === 0;

/** On a kernel that should have a driver, its absence is a failure of whatever wants it. */
export const hasDriver = (driver: string) => built || isThere(driver);

/** Loads a driver for the tests of a suite; where they need something besides that is missing, they say so instead. */
export function suiteWithDriver(driver: string, parameters: readonly string[], missing?: string): void {
  before(function () {
    if (missing !== undefined) {
      assert(this.test?.parent);
      this.test.parent.title += ` (${missing})`;
      this.skip();
    }
    load(driver, ...parameters);
  });

  after(async () => {
    if (missing === undefined) await eventually(() => unload(driver));
  });
}

/** `describe` with a driver loaded; one pending test with the reason where the kernel has none. */
export function describeDriver(title: string, driver: string, parameters: readonly string[], body: () => void): void {
  if (!hasDriver(driver)) {
    const reason = `needs the driver ${driver}, which Debian's kernels lack: test it on the kernel lab`;
    describe(title, () => void it(reason));
    return;
  }
  describeModules(title, () => {
    suiteWithDriver(driver, parameters);
    body();
  });
}

/** A driver for the tests of a suite, which need a program of ./c besides: its path. */
export function withDriver(driver: string, parameters: readonly string[], name: string): string {
  const { path, missing } = program(name);
  suiteWithDriver(driver, parameters, missing);
  return path;
}

/** Path of the card that is vgem's, which is loaded. */
export function vgemCard(): string {
  // a platform device, from 6.16 on a faux one
  const name = readdirSync('/sys/class/drm').find((entry) => {
    return /^card\d+$/.test(entry) && readlinkSync(`/sys/class/drm/${entry}`).includes('/vgem/');
  });
  assert(name, 'vgem has no card');
  return `/dev/dri/${name}`;
}

/** The camera that is vivid's, which is loaded. */
export function vividCamera(): string {
  const name = readdirSync('/sys/class/video4linux').find((entry) =>
    readFileSync(`/sys/class/video4linux/${entry}/name`, 'utf8').startsWith('vivid-000-vid-cap'),
  );
  assert(name, 'vivid has no camera');
  return `/dev/${name}`;
}

/** Parameters of vivid for one camera, and nothing else; it maps buffers for a device, or for the CPU alone. */
export const vividWith = (mapping: 'device' | 'cpu') => [
  ...['n_devs=1', 'node_types=0x1', 'no_error_inj=1'],
  `allocators=${mapping === 'device' ? 1 : 0}`,
];

/** Runs `body` while a driver has buffers, which a program gave it and takes back when its input ends. */
export async function whileImported(path: string, args: string[], buffers: DmaBuf[], body: () => void): Promise<void> {
  const child = spawn(path, args, { stdio: ['pipe', 'pipe', 'inherit', ...buffers.map(({ fd }) => fd)] });
  assert(child.stdin && child.stdout);
  // with its pipes, which are descriptors of this process
  const ended = once(child, 'close');
  child.stdout.resume();
  try {
    await Promise.race([once(child.stdout, 'data'), ended]);
    body();
  } finally {
    child.stdin.end();
    assert.deepEqual(await ended, [0, null]);
  }
}
