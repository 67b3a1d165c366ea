// SPDX-License-Identifier: MIT
// Builds the addon for this machine with node-gyp, if anything it is made of has changed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('..', import.meta.url));
const addon = join(root, 'build/Release/dmabuf.node');
const stamp = join(root, 'build/Release/dmabuf.inputs');

function* files(path) {
  if (statSync(path).isDirectory()) for (const name of readdirSync(path).sort()) yield* files(join(path, name));
  else yield path;
}

const hash = createHash('sha256').update(
  `${process.version} ${process.arch} ${require('node-addon-api/package.json').version}\n`,
);
for (const input of ['binding.gyp', 'native/sources.txt', 'native/src', 'kernel-modules/include/uapi']) {
  for (const file of files(join(root, input))) hash.update(`${file.slice(root.length)}\n`).update(readFileSync(file));
}
const inputs = hash.digest('hex');

if (!existsSync(addon) || !existsSync(stamp) || readFileSync(stamp, 'utf8') !== inputs) {
  // Headers that came with this Node need no download.
  const prefix = dirname(dirname(process.execPath));
  const local = existsSync(join(prefix, 'include/node/common.gypi')) ? [`--nodedir=${prefix}`] : [];
  const gyp = require.resolve('node-gyp/bin/node-gyp.js');
  const { status } = spawnSync(process.execPath, [gyp, 'rebuild', '--jobs=max', '--loglevel=warn', ...local], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) {
    console.error(
      'The addon was not built: it needs python3, make and g++ (Debian: apt install build-essential python3).',
    );
    process.exit(1);
  }
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, inputs);
}
