// SPDX-License-Identifier: MIT
// Every node of the guest starts with this (NODE_OPTIONS). It teaches node to run TypeScript, but
// only where TypeScript can be meant: the hooks cost more than a second on an emulated machine.

const typescript = /\.[cm]?ts\b/;
const code = process._eval;
const said = [...process.argv.slice(1), ...process.execArgv, ...(code === undefined ? [] : [code])];

if (said.some((word) => typescript.test(word))) {
  const { register, default: Module } = await import('node:module');
  const { transformSync } = await import('./transform.mjs');
  // node 26 calls register() deprecated, aloud in every process. Its successor's hooks are those of require(), too.
  const { noDeprecation } = process;
  process.noDeprecation = true;
  register('./hooks.mjs', import.meta.url);
  process.noDeprecation = noDeprecation;
  process.setSourceMapsEnabled(true);
  for (const extension of ['.ts', '.cts']) {
    Module._extensions[extension] = (module, path) => module._compile(transformSync(path), path);
  }
  // What hooks.mjs does for import: ./a.js where only ./a.ts is.
  const resolve = Module._resolveFilename;
  Module._resolveFilename = (request, ...rest) => {
    try {
      return resolve(request, ...rest);
    } catch (error) {
      const written = /^(\.{0,2}\/.*)\.([cm]?)js$/.exec(request);
      if (error.code !== 'MODULE_NOT_FOUND' || !written) throw error;
      return resolve(`${written[1]}.${written[2]}ts`, ...rest);
    }
  };
}
