// SPDX-License-Identifier: MIT
/** What to do when the garbage collector has taken an object. @module */

/** What is to be done, which does not refer to the owner. */
export interface Watched {
  readonly owner: WeakRef<object>;
  /** Once, when the owner is gone. */
  gone(): void;
}

/** Oldest first. */
const watched = new Set<Watched>();

/** Whether {@link collections} has its object. */
let waiting = false;

/**
 * Of one object that nobody has, so that each full collection takes it. Of the owners themselves it would be dear: V8
 * copies in each small collection, and keeps until a full one, what was registered, even if it was unregistered at once.
 */
const collections = new FinalizationRegistry<undefined>(() => {
  waiting = false;
  if (watched.size > 0) wait();
  for (const each of watched) {
    if (each.owner.deref() !== undefined) continue;
    watched.delete(each);
    each.gone();
  }
});

function wait(): void {
  if (waiting) return;
  waiting = true;
  collections.register({}, undefined);
}

/** Until {@link unwatch}. */
export function watch(each: Watched): void {
  watched.add(each);
  wait();
}

/** Calls `gone` once the owner was collected, to which it must not refer, unless {@link unwatch} came first. */
export function whenCollected(owner: object, gone: () => void): Watched {
  const each = { owner: new WeakRef(owner), gone };
  watch(each);
  return each;
}

export function unwatch(each: Watched): void {
  watched.delete(each);
}

/** All that is watched, oldest first. */
export function allWatched(): readonly Watched[] {
  return [...watched];
}
