// SPDX-License-Identifier: MIT
/** A device that does DMA through bounce buffers and through an IOMMU, each in a guest of its own (../guest/edu). */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EDU_GUESTS, guestTests, prepareGuestTests, resultOf, testFiles } from '../../scripts/src/guest-tests.ts';
import { chooseMachine } from '../../scripts/src/machines.ts';
import { guest } from './run-guest.ts';

const machines = [
  { name: 'bounce', arch: 'armhf', kernel: '6.1' },
  { name: 'iommu', arch: 'arm64', kernel: '7.2' },
  { name: 'bounce', arch: 'arm64', kernel: '7.2' },
  { name: 'iommu', arch: 'arm64', kernel: '6.1' },
  { name: 'bounce', arch: 'armhf', kernel: '7.2' },
  { name: 'bounce', arch: 'arm64', kernel: '6.1' },
] as const;

/** With little time two of them: each two in their turn. */
const { DMABUF_TURN: turn } = process.env;
const first = 2 * (Number(turn) % (machines.length / 2));
const chosen = turn === undefined ? machines : machines.slice(first, first + 2);

describe('a device that does DMA', function () {
  // A kernel may have to be fetched first.
  this.timeout(900_000);
  this.slow(90_000);

  for (const { name, arch, kernel } of chosen) {
    it(`works in a guest ${EDU_GUESTS[name].title}, ${kernel} for ${arch}`, async () => {
      const { folder, files, ...tests } = EDU_GUESTS[name];
      const { architecture, userland } = chooseMachine(arch, kernel);
      const directory = mkdtempSync(join(tmpdir(), 'dmabuf-edu-'));
      try {
        await prepareGuestTests(directory, userland);
        const options = ['--arch', architecture.name, '--kernel', kernel, ...tests.options];
        const [, ...args] = guestTests(directory, { ...tests, options, files: await testFiles(folder, files) });
        const { code, stdout, stderr } = await guest(args);
        const { passed, failed, skipped } = await resultOf(directory, code);
        assert.deepEqual({ failed, skipped }, { failed: 0, skipped: 0 }, `${stdout}${stderr}`);
        assert(passed > 0);
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
  }
});
