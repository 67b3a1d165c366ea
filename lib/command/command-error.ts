// SPDX-License-Identifier: MIT
/** A failure that has an exit code of its own. */
export class CommandError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}
