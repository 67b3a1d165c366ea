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
  return { format, source, shortCircuit: true };
}

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
  !/^\s*(import|export)\b(?!\s*\()/m.test(source) && /\b(require\s*\(|module\.exports|exports\.)/.test(source);
