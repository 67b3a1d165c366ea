// SPDX-License-Identifier: MIT
/** A failure that is told by its message alone, and may have an exit code of its own. */
export class CommandError extends Error {
  readonly exitCode: number | undefined;

  constructor(message: string, exitCode?: number) {
    super(message);
    this.exitCode = exitCode;
  }
}
