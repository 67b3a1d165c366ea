// SPDX-License-Identifier: MIT
// The sources of a kernel, from Debian's package of them: what is built of them stays out of this repository.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { contentOf, ownArchitecture, packages } from './apt.ts';
import { cached } from './cache.ts';
import { Failure } from './failure.ts';
import { requirePackages } from './host.ts';
import { step } from './progress.ts';
import { run } from './run.ts';

/** The Debian suite that has the sources of a line. */
const suites: Record<string, string> = { '5.10': 'bullseye', '6.12': 'trixie' };

/** Debian's linux-source package of a line: a directory that holds the .deb. */
export async function sourcePackage(line: string): Promise<string> {
  const suite = suites[line];
  if (suite === undefined) throw new Failure(`sources of kernel ${line}: there are ${Object.keys(suites).join(', ')}`);
  const name = `linux-source-${line}`;
  // Not 'all': Debian says of the list of these alone that it is not supported, and mirrors have an old one at times.
  const sources = [{ suite, architectures: [await ownArchitecture()] }];
  return packages(`the sources of kernel ${line}`, sources, name, async () => [name]);
}

/**
 * Unpacks sources into a directory.
 * @param paths files and folders of the tree, all of it if there are none
 */
export async function unpackSource(line: string, into: string, paths: string[] = []): Promise<void> {
  const directory = await sourcePackage(line);
  const [deb] = await contentOf(directory);
  const archive = `usr/src/linux-source-${line}.tar.xz`;
  const script =
    'set -o pipefail; deb=$1 archive=$2 into=$3; shift 3; ' +
    'dpkg-deb --fsys-tarfile "$deb" | tar -xO "./$archive" | xz -dc -T0 | tar -x -C "$into" --strip-components=1 "$@"';
  const wanted = paths.map((path) => `linux-source-${line}/${path}`);
  await requirePackages(['xz-utils']);
  await mkdir(into, { recursive: true });
  await run('bash', ['-c', script, 'bash', join(directory, deb as string), archive, into, ...wanted], {
    purpose: `unpacking the sources of kernel ${line}`,
  });
}

/** A cached directory with some files and folders of a line's sources. */
export async function sourceParts(line: string, paths: string[]): Promise<string> {
  return cached('source', [await contentOf(await sourcePackage(line)), paths], 100 << 20, (part) =>
    step(`unpacking ${paths.length} parts of the sources of kernel ${line}`, () => unpackSource(line, part, paths)),
  );
}
