// SPDX-License-Identifier: MIT
/** The fuzzer of the whole public API, as a test. DMABUF_FUZZ_STEPS and DMABUF_FUZZ_SEED say how it runs. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('./unit/children/api-fuzz.mjs', import.meta.url));
const { DMABUF_FUZZ_STEPS, DMABUF_FUZZ_SEED = String(Date.now() % 2 ** 31) } = process.env;

/** So few descriptors that their end is soon reached. */
const DESCRIPTORS = 256;

/** Declares the test: so many steps where the environment says nothing else. */
export function fuzz(usual: number): void {
  const steps = Number(DMABUF_FUZZ_STEPS ?? usual);

  it(`survives ${steps.toLocaleString('en')} steps of anything, and keeps nothing`, function () {
    this.timeout(Math.max(this.timeout(), 60_000 + steps * 60));
    this.slow(30_000);
    const cwd = mkdtempSync(join(tmpdir(), 'dmabuf-fuzz-'));
    try {
      const { status, signal, stdout, stderr } = spawnSync(
        'sh',
        [
          ...['-c', `ulimit -n ${DESCRIPTORS} && exec "$@"`, 'sh', process.execPath],
          ...['--no-warnings', '--expose-gc', script, String(steps), DMABUF_FUZZ_SEED],
        ],
        { cwd, encoding: 'utf8', maxBuffer: 1 << 26 },
      );
      if (status === 0) return;
      const last = readFileSync(join(cwd, 'steps'), 'utf8').trim().split('\n').slice(-20).join('\n');
      assert.fail(`ended with ${signal ?? status}; ${stdout}${stderr.slice(-20_000)}\nthe last steps:\n${last}`);
    } finally {
      rmSync(cwd, { recursive: true });
    }
  });
}
