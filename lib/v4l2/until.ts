// SPDX-License-Identifier: MIT
/** Frames of others, for as long as there is somewhere to put them. @module */
import { Frame } from './frame.js';

/** The next of `source`, or the end: what comes after that is closed. */
function nextBefore(end: AbortSignal, source: AsyncIterator<Frame>): Promise<IteratorResult<Frame>> {
  // A source may throw, where it should answer a promise.
  const asked = (async () => source.next())();
  return new Promise((resolve, reject) => {
    const over = () => {
      reject(end.reason);
      const late = asked.then(({ value }) => {
        if (value instanceof Frame) value.close();
      });
      late.catch(() => {});
      // It may wait for what never comes.
      leave(source).catch(() => {});
    };
    const settled = () => end.removeEventListener('abort', over);
    end.addEventListener('abort', over);
    asked.then(
      (result) => {
        settled();
        resolve(result);
      },
      (error) => {
        settled();
        reject(error);
      },
    );
  });
}

async function leave(source: AsyncIterator<Frame>): Promise<void> {
  await source.return?.();
}

/**
 * The same frames; a loop over them ends with the reason of a signal also while they let it wait.
 *
 * @internal
 */
export function until(end: AbortSignal, frames: AsyncIterable<Frame>): AsyncIterable<Frame> {
  const source = frames[Symbol.asyncIterator]();
  const iterator: AsyncIterator<Frame> = {
    async next() {
      if (!end.aborted) return await nextBefore(end, source);
      await leave(source).catch(() => {});
      throw end.reason;
    },
    async return() {
      await leave(source);
      return { value: undefined, done: true };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
