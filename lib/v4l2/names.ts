// SPDX-License-Identifier: MIT
/** Words for the numbers of linux/videodev2.h. @module */
import { type Call, invalidType, invalidValue } from '../errors.js';

/** A number that this library has no word for, of a later kernel. */
export type Unnamed = `#${number}`;

/** Words for numbers, both ways; all of a type's, but for those of later kernels. @internal */
export class Names<T extends string> {
  readonly #what: string;
  readonly #codes: ReadonlyMap<string, number>;
  readonly #words: ReadonlyMap<number, string>;

  constructor(what: string, codes: Readonly<Record<Exclude<T, Unnamed>, number>>) {
    const entries = Object.entries<number>(codes);
    this.#what = what;
    this.#codes = new Map(entries);
    this.#words = new Map(entries.map(([word, code]) => [code, word]));
  }

  word(code: number): T {
    return (this.#words.get(code) ?? `#${code}`) as T;
  }

  /** @throws TypeError ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE */
  code(word: unknown, call: Call): number {
    if (typeof word !== 'string') throw invalidType(this.#what, 'of type string', word, call);
    const unnamed = /^#(\d{1,9})$/.exec(word)?.[1];
    const code = unnamed === undefined ? this.#codes.get(word) : Number(unnamed);
    if (code !== undefined) return code;
    throw invalidValue(this.#what, `must be one of ${[...this.#codes.keys()].join(', ')}. Received '${word}'`, call);
  }
}
