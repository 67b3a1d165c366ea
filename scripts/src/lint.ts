// SPDX-License-Identifier: MIT
// npm run lint: one check a tool, a line each, the findings of those that have any.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { EXIT_FAILED, told } from './failure.ts';
import { requirePackages } from './host.ts';
import { say } from './progress.ts';
import { projectRoot } from './project.ts';

const list = (...patterns: string[]) =>
  spawnSync('git', ['ls-files', ...patterns], { cwd: projectRoot, encoding: 'utf8' })
    .stdout.split('\n')
    .filter(Boolean);

const biome = join(projectRoot, `node_modules/@biomejs/cli-linux-${process.arch}/biome`);

function checks(): [title: string, ...command: string[]][] {
  const shell = list('.ci/*', 'scripts/*').filter((file) => /^(\.ci\/run|scripts\/[^/]+)$/.test(file));
  return [
    ['types of TypeScript', join(projectRoot, 'node_modules/.bin/tsc'), '-p', 'tsconfig.json'],
    ['style of TypeScript', biome, 'check', '--error-on-warnings'],
    ['shell scripts', 'shellcheck', '-x', ...shell, 'scripts/src/setup.sh', 'scripts/src/guest-root/init'],
  ];
}

async function main(): Promise<void> {
  await requirePackages(['git', 'shellcheck']);
  let failed = 0;
  const all = checks();
  for (const [title, program, ...args] of all) {
    const { status, stdout, stderr, error } = spawnSync(program as string, args, {
      cwd: projectRoot,
      encoding: 'utf8',
    });
    const ok = status === 0;
    console.log(`${ok ? '✓' : '✗'} ${title}`);
    if (ok) continue;
    failed++;
    console.log(`${error?.message ?? ''}${stdout ?? ''}${stderr ?? ''}`);
  }
  console.log(`${all.length - failed} passed, ${failed} failed, 0 skipped`);
  process.exitCode = failed === 0 ? 0 : 1;
}

main().catch((error) => {
  say(told(error));
  process.exitCode = EXIT_FAILED;
});
