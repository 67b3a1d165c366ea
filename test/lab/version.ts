// SPDX-License-Identifier: MIT
/** Says which node runs it, with a type that has to go first. */
const words: string[] = [process.version, process.arch];
console.log(words.join(' '));
