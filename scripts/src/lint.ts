// SPDX-License-Identifier: MIT
// npm run lint [-- NAME…]: what can be said about the sources without running them. A line a check, and the findings
// of those that have any.
import { Failure, told } from './failure.ts';
import { requirePackages } from './host.ts';
import { type Check, checks } from './lint-checks.ts';
import { runMain } from './run.ts';

function chosen(names: string[]): [string, Check][] {
  for (const name of names) {
    if (!Object.hasOwn(checks, name))
      throw new Failure(`there is no check ${name}: there is ${Object.keys(checks).join(', ')}`);
  }
  return Object.entries(checks).filter(([name]) => names.length === 0 || names.includes(name));
}

async function passes(name: string, { title, findings }: Check): Promise<boolean> {
  const found = (await findings().catch(told)).trim();
  console.log(`${found ? '✗' : '✓'} ${name}: ${title}${found && `\n${found}\n`}`);
  return !found;
}

async function main(): Promise<number> {
  const all = chosen(process.argv.slice(2));
  await requirePackages(['git', ...new Set(all.flatMap(([, check]) => check.packages))]);
  const results = await Promise.all(all.map(([name, check]) => passes(name, check)));
  const passed = results.filter(Boolean).length;
  console.log(`${passed} passed, ${results.length - passed} failed, 0 skipped`);
  return passed === results.length ? 0 : 1;
}

runMain('lint', main);
