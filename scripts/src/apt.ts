// SPDX-License-Identifier: MIT
// Debian packages of any suite and architecture, without touching this machine's own package state: apt itself,
// with directories of its own. It checks the lists against Debian's keys and the packages against the lists.
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached, entryPath, type Key, locked, mib } from './cache.ts';
import { Failure, told } from './failure.ts';
import { say, step } from './progress.ts';
import { run, stopping } from './run.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

export interface Source {
  suite: string;
  /** The first one is the machine the packages are for. */
  architectures: string[];
}

let mirror: Promise<string> | undefined;

/** The Debian mirror this machine's apt is set up with, or DMABUF_DEBIAN_MIRROR. */
function debianMirror(): Promise<string> {
  mirror ??= findMirror();
  return mirror;
}

async function findMirror(): Promise<string> {
  const { DMABUF_DEBIAN_MIRROR: named } = process.env;
  if (named) return named.replace(/\/*$/, '/');
  const format = '$(IDENTIFIER)\t$(ORIGIN)\t$(LABEL)\t$(RELEASE)\t$(COMPONENT)\t$(REPO_URI)';
  const targets = await run('apt-get', ['indextargets', '--format', format], { purpose: 'asking apt for its mirror' });
  const rows = targets.split('\n').map((line) => line.split('\t'));
  // Before the first "apt-get update" apt does not know who is behind an address.
  const known = rows.find((row) => row[0] === 'Packages' && row[1] === 'Debian' && row[2] === 'Debian');
  const { ID, VERSION_CODENAME } = await osRelease();
  const likely = rows.find(
    (row) => row[0] === 'Packages' && ID === 'debian' && row[3] === VERSION_CODENAME && row[4] === 'main' && !row[1],
  );
  const uri = (known ?? likely)?.[5];
  if (!uri) {
    throw new Failure(
      "this machine's apt is not set up with a Debian mirror: name one in DMABUF_DEBIAN_MIRROR, for example the " +
        'address that stands in the sources list of a Debian machine near you',
    );
  }
  return uri;
}

async function osRelease(): Promise<Record<string, string>> {
  const text = await run('cat', ['/etc/os-release'], { purpose: 'reading /etc/os-release' });
  return Object.fromEntries([...text.matchAll(/^(\w+)="?([^"\n]*)"?$/gm)].map(([, name, value]) => [name, value]));
}

/** Debian's name for this machine's architecture: its lists have the packages for all of them, too. */
export async function ownArchitecture(): Promise<string> {
  const name = await run('dpkg', ['--print-architecture'], { purpose: "asking for this machine's architecture" });
  return name.trim();
}

/** An apt of our own over some sources. */
class Apt {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async over(sources: Source[]): Promise<Apt> {
    if (!existsSync(KEYRING)) {
      throw new Failure(`${KEYRING} is missing: install the package debian-archive-keyring`);
    }
    const uri = await debianMirror();
    const directory = entryPath('apt', { uri, sources } as unknown as Key);
    const apt = new Apt(directory);
    for (const path of ['lists/partial', 'archives/partial', 'etc']) {
      await mkdir(join(directory, path), { recursive: true });
    }
    const architectures = [...new Set(sources.flatMap((source) => source.architectures))];
    await writeFile(
      join(directory, 'sources.list'),
      sources
        .map(({ suite, architectures: wanted }) => {
          return `deb [arch=${wanted.join()} signed-by=${KEYRING}] ${uri} ${suite} main\n`;
        })
        .join(''),
    );
    await writeFile(join(directory, 'status'), '');
    // How this machine's apt reaches its mirror: proxies, certificates, passwords.
    const access = await run('apt-config', ['dump', 'Acquire'], { purpose: "asking apt for this machine's proxy" });
    await writeFile(
      join(directory, 'apt.conf'),
      [
        `Dir "${directory}/";`,
        `Dir::State "state"; Dir::State::lists "${directory}/lists/"; Dir::State::status "${directory}/status";`,
        `Dir::Cache "cache"; Dir::Cache::archives "${directory}/archives/"; Dir::Cache::pkgcache "${directory}/lists.bin"; Dir::Cache::srcpkgcache "";`,
        ...access.split('\n').filter((line) => /^Acquire::(http|https)::/.test(line)),
        'Dir::Etc::netrc "/etc/apt/auth.conf"; Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
        'Dir::Etc "etc/"; Dir::Etc::SourceParts "/dev/null"; Dir::Etc::Parts "/dev/null";',
        `Dir::Etc::SourceList "${directory}/sources.list";`,
        `APT::Architecture "${architectures[0]}";`,
        `APT::Architectures { ${architectures.map((name) => `"${name}";`).join(' ')} };`,
        'APT::Sandbox::User ""; APT::Install-Recommends "false"; Acquire::Languages "none";',
        // Testing and unstable call their lists expired after a week, and a mirror may be older. Signatures are checked.
        'Acquire::Check-Valid-Until "false";',
        'Acquire::Retries "2"; Acquire::http::Timeout "60"; Acquire::https::Timeout "60";',
        '',
      ].join('\n'),
    );
    return apt;
  }

  #run(command: string, args: string[], purpose: string, each?: (line: string) => void): Promise<string> {
    const env = { ...process.env, APT_CONFIG: join(this.#directory, 'apt.conf'), LC_ALL: 'C.UTF-8' };
    return run(command, args, { env, purpose, ...(each && { lines: { fd: 3, each } }) });
  }

  async update(): Promise<void> {
    await step("reading Debian's package lists", ({ progress }) =>
      this.#run(
        'apt-get',
        ['-o', 'APT::Status-Fd=3', '-o', 'APT::Update::Error-Mode=any', 'update'],
        "reading Debian's package lists",
        statusProgress(progress),
      ),
    );
  }

  /** apt's own digest of the lists: 50 MB that save seconds a question, but only today. */
  async forget(): Promise<void> {
    await rm(join(this.#directory, 'lists.bin'), { force: true });
  }

  /** The direct dependencies of a package, alternatives left out. */
  async depends(name: string): Promise<string[]> {
    const shown = await this.#run('apt-cache', ['show', '--no-all-versions', name], `looking for the package ${name}`);
    const depends = /^Depends: (.*)$/m.exec(shown)?.[1] ?? '';
    return depends.split(',').map((one) => one.trim().split(/[ :|(]/)[0] ?? '');
  }

  /** What apt would download for a request, as file name, size and hash. */
  async #list(request: string[]): Promise<{ name: string; size: number }[]> {
    const printed = await this.#run('apt-get', ['--print-uris', '-qq', ...request], 'resolving Debian packages');
    return [...printed.matchAll(/^'[^']*' (\S+) (\d+) /gm)].map(([, name, size]) => ({
      name: name as string,
      size: Number(size),
    }));
  }

  /** Downloads what a request names into a directory. */
  async fetch(title: string, request: string[], into: string): Promise<void> {
    const files = await this.#list(request);
    const size = files.reduce((sum, file) => sum + file.size, 0);
    const archives = join(into, 'archives');
    // Nothing of a request that failed half-way.
    await rm(archives, { recursive: true, force: true });
    await mkdir(join(archives, 'partial'), { recursive: true });
    await step(`fetching ${title} (${files.length} packages, ${mib(size)})`, ({ progress }) =>
      this.#run(
        'sh',
        [
          '-c',
          'cd "$1" && shift && exec apt-get -y -o APT::Status-Fd=3 -o Dir::Cache::archives="$PWD" "$@"',
          'sh',
          archives,
          ...request,
        ],
        `fetching ${title}`,
        statusProgress(progress),
      ),
    );
    for (const file of await readdir(archives)) {
      if (file.endsWith('.deb')) await rename(join(archives, file), join(into, file));
    }
    await rm(archives, { recursive: true });
  }
}

const statusProgress = (progress: (part: number) => void) => (line: string) => {
  const percent = /^dlstatus:[^:]*:([\d.]+):/.exec(line)?.[1];
  if (percent) progress(Number(percent) / 100);
};

/** A directory of .deb files: these packages and everything they depend on. */
export function packagesWithDependencies(title: string, sources: Source[], names: string[]): Promise<string> {
  return cached('packages', { sources, names } as unknown as Key, 400 << 20, (directory) =>
    withApt(sources, (apt) => apt.fetch(title, ['install', '--download-only', ...names], directory)),
  );
}

/**
 * A directory of .deb files: just these packages, without their dependencies.
 * @param resolve finds the names, which carry versions, from the lists of the day
 */
export function packages(
  title: string,
  sources: Source[],
  what: Key,
  resolve: (depends: (name: string) => Promise<string[]>) => Promise<string[]>,
): Promise<string> {
  return cached('packages', { sources, what } as unknown as Key, 400 << 20, (directory) =>
    withApt(sources, async (apt) => {
      const names = await resolve((name) => apt.depends(name));
      await apt.fetch(title, ['download', ...names], directory);
    }),
  );
}

/** How apt says that it cannot have what its lists promise. */
const GONE = /\b404\b|Not Found|Hash Sum mismatch|Unable to (fetch|locate)|Failed to fetch|No packages found/;

async function withApt(sources: Source[], work: (apt: Apt) => Promise<void>): Promise<void> {
  await locked('apt', async () => {
    const apt = await Apt.over(sources);
    const readAndWork = async () => {
      await apt.update();
      await work(apt);
    };
    try {
      await readAndWork();
    } catch (error) {
      if (stopping() || !GONE.test(told(error))) throw error;
      // A mirror in the middle of an update has lists that do not belong together, and a package may have left it
      // since its list was read, another version in its place.
      say(`${told(error)}\nthe package lists are read again`);
      await readAndWork().catch((again) => {
        const cure = 'try again later, or name another mirror by DMABUF_DEBIAN_MIRROR';
        throw new Failure(`the mirror does not have what its lists promise: ${cure}\n${told(again)}`);
      });
    } finally {
      await apt.forget();
    }
  });
}

/** What a directory of packages holds, with versions: a part of the key of whatever is made of it. */
export async function contentOf(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((file) => file.endsWith('.deb')).sort();
}

/** Unpacks every package of a directory into another one. */
export async function unpack(packagesDirectory: string, into: string, wanted: RegExp = /./): Promise<void> {
  for (const file of await contentOf(packagesDirectory)) {
    if (!wanted.test(file)) continue;
    await run('dpkg-deb', ['-x', join(packagesDirectory, file), into], { purpose: `unpacking ${file}` });
  }
}
