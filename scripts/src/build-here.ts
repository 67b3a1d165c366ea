// SPDX-License-Identifier: MIT
// npm run build: the addon for this machine and the library.
import { EXIT_FAILED, told } from './failure.ts';
import { requirePackages } from './host.ts';
import { say, step } from './progress.ts';
import { ensureDist, projectRoot } from './project.ts';
import { run } from './run.ts';

export async function buildHere(): Promise<void> {
  await requirePackages(['g++', 'make', 'python3']);
  await step('building the bridge for this machine', () =>
    run('npm', ['run', '--silent', 'build:native'], { cwd: projectRoot, purpose: 'building the bridge' }),
  );
  await ensureDist();
}

if (process.argv[1] === import.meta.filename) {
  buildHere().catch((error) => {
    say(told(error));
    process.exitCode = EXIT_FAILED;
  });
}
