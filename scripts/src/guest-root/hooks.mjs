// SPDX-License-Identifier: MIT
// Module hooks for .ts, .mts and .cts, with the rules of node 22.18 and later: extensions are
// written out, the package's "type" decides what a module is, and where it is silent the syntax does.
// TypeScript's own habit of naming a file by what it compiles to (./a.js for ./a.ts) works too.
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform } from './transform.mjs';

const typescript = /\.([cm]?)ts$/;

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    const written = /^(.*)\.([cm]?)js$/.exec(specifier);
    if (error.code !== 'ERR_MODULE_NOT_FOUND' || !written || !/^(\.|\/|file:)/.test(specifier)) throw error;
    try {
      return await next(`${written[1]}.${written[2]}ts`, context);
    } catch {
      throw error;
    }
  }
}

export async function load(url, context, next) {
  const kind = url.startsWith('file:') && typescript.exec(new URL(url).pathname);
  if (!kind) return next(url, context);
  const path = fileURLToPath(url);
  let format = { m: 'module', c: 'commonjs', '': packageType(dirname(path)) }[kind[1]];
  const source = await transform(path, format);
  format ??= isCommonJs(source) ? 'commonjs' : 'module';
  if (format === 'module') return { format, source, shortCircuit: true };
  // Without a source node leaves it to require(), which register.mjs taught TypeScript. What it exports
  // by the keyword no parser of CommonJS would find in the file: esbuild's summary says it.
  const names = /^0 && \(module\.exports = \{([^}]*)\}\);/m.exec(source)?.[1].match(/[\w$]+/g);
  if (!names) return { format, source: null, shortCircuit: true };
  return { format: 'module', source: facade(path, names), shortCircuit: true };
}

const facade = (path, names) => `
  import { createRequire } from 'node:module';
  const exported = createRequire(import.meta.url)(${JSON.stringify(path)});
  export default exported;
  export const { ${names.filter((name) => name !== 'default').join(', ')} } = exported;
`;

function packageType(directory) {
  try {
    const { type } = JSON.parse(readFileSync(`${directory}/package.json`, 'utf8'));
    return type === 'module' || type === 'commonjs' ? type : undefined;
  } catch (error) {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
  }
  return directory === '/' ? undefined : packageType(dirname(directory));
}

const isCommonJs = (source) =>
  !/^\s*(import|export)\b(?!\s*\()/m.test(source) &&
  /\b(require\s*[.(]|module\.exports|exports\.|__dirname\b|__filename\b)/.test(source);
