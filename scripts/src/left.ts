// SPDX-License-Identifier: MIT
// What test/debug/watched.sh found left behind in a guest, as a test.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Result } from './guest-tests.ts';

/** Adds one test to the result of a guest whose /share was `directory`: that nothing was left behind. */
export async function addWhatIsLeft(directory: string, result: Result): Promise<void> {
  const before = result.failures.length;
  const left = join(directory, 'left');
  const names: string[] = await readdir(left).catch(() => []);
  if (!names.includes('done')) {
    result.failures.push({ title: 'nobody looked for what was left behind', message: '' });
  }
  for (const name of names.filter((one) => one !== 'done').sort()) {
    const text = await readFile(join(left, name), 'utf8');
    result.failures.push({ title: `left behind: ${name}`, message: text });
  }
  if (result.failures.length > before) result.failed++;
  else result.passed++;
}
