// SPDX-License-Identifier: MIT

/** Something a person can act on: shown as one sentence, without a stack. */
export class Failure extends Error {}

/** What to tell a person about an error: its sentence, and where it came from only if that is a mistake of ours. */
export function told(error: unknown): string {
  const { message, stack, syscall } = error as NodeJS.ErrnoException;
  return error instanceof Failure || syscall !== undefined ? message : (stack ?? String(error));
}

/** The exit code of every script here when it is not the command's own: what GNU env, timeout and docker use. */
export const EXIT_FAILED = 125;
/** COMMAND ran longer than --timeout. */
export const EXIT_TIMEOUT = 124;
/** The kernel reported something about itself. */
export const EXIT_REPORT = 99;
