// SPDX-License-Identifier: MIT
// Debian packages this machine itself must have.
import { spawnSync } from 'node:child_process';
import { locked } from './cache.ts';
import { Failure } from './failure.ts';
import { step } from './progress.ts';
import { run } from './run.ts';

function missingOf(names: string[]): string[] {
  const asked = spawnSync('dpkg-query', ['-W', '-f', `\${Package} \${db:Status-Status}\n`, ...names], {
    encoding: 'utf8',
  });
  const there = new Set(
    (asked.stdout ?? '')
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  );
  return names.filter((name) => !there.has(name));
}

const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;

/**
 * Installs what is missing, as root or by sudo.
 * @throws Failure with the exact packages if that is not possible here
 */
export async function requirePackages(names: string[]): Promise<void> {
  const missing = missingOf(names);
  if (missing.length === 0) return;
  const root = process.getuid?.() === 0;
  // A sudo that would ask needs somebody at the terminal to answer.
  const sudo = !root && has('sudo') && (process.stdin.isTTY || spawnSync('sudo', ['-n', 'true']).status === 0);
  if (!has('apt-get') || !(root || sudo)) {
    throw new Failure(
      `Debian packages are missing, and ${has('apt-get') ? 'this user may not install them' : 'there is no apt here'}. ` +
        `Install these, then run this again:\n  apt-get install --no-install-recommends ${missing.join(' ')}`,
    );
  }
  const apt = async (purpose: string, args: string[]) => {
    const command = [
      'env',
      'DEBIAN_FRONTEND=noninteractive',
      'apt-get',
      '-qq',
      '-o',
      'DPkg::Lock::Timeout=300',
      ...args,
    ];
    await run(root ? 'env' : 'sudo', root ? command.slice(1) : command, { purpose });
  };
  await locked('host', async () => {
    const still = missingOf(names);
    if (still.length === 0) return;
    const purpose = `installing ${still.join(' ')}`;
    await step(purpose, async () => {
      await apt('reading the package lists', ['update']);
      await apt(purpose, ['install', '-y', '--no-install-recommends', ...still]);
    });
  });
}
