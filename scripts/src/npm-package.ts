// SPDX-License-Identifier: MIT
// One file out of a package of the npm registry, for programs of machines npm does not install for here.
import { createHash } from 'node:crypto';
import { readFile, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { cached } from './cache.ts';
import { Failure } from './failure.ts';
import { step } from './progress.ts';
import { run } from './run.ts';

export interface NpmPackage {
  name: string;
  version: string;
  /** Of the packed package, as npm's lock files write it. */
  integrity: string;
}

/**
 * The path of a file of the package, by its path in there.
 *
 * @param needs - bytes of room to have before it is fetched
 * @throws Failure where the package is not the one expected; nothing is kept then
 */
export async function fileOfPackage(
  { name, version, integrity }: NpmPackage,
  file: string,
  needs: number,
): Promise<string> {
  const what = `${name}@${version}`;
  const directory = await cached('npm', [what, integrity, file], needs, (part) =>
    step(`fetching ${what}`, async () => {
      const purpose = `fetching ${what}`;
      const answer = JSON.parse(await run('npm', ['pack', '--json', '--silent', what], { cwd: part, purpose }));
      const packed = join(part, [answer].flat()[0].filename);
      const found = `sha512-${createHash('sha512')
        .update(await readFile(packed))
        .digest('base64')}`;
      if (found !== integrity) {
        throw new Failure(`${what} is not what is expected here (${found}, not ${integrity}); nothing was kept`);
      }
      await run('tar', ['-xzf', packed, '-C', part, `package/${file}`], { purpose });
      await rename(join(part, 'package', file), join(part, basename(file)));
      await rm(join(part, 'package'), { recursive: true });
      await rm(packed);
    }),
  );
  return join(directory, basename(file));
}
