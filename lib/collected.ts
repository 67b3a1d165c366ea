// SPDX-License-Identifier: MIT
/** What to do when the garbage collector has taken an object. @module */

/** Something to be done when its owner was collected, to which it must not refer otherwise. */
export abstract class Watched {
  /** In the turn in which it was made: most of what lives longer is worth a WeakRef, which costs more than all the rest. */
  #owner: object | undefined;
  #weak: WeakRef<object> | undefined;
  #before: Watched | undefined;
  #after: Watched | undefined;
  #listed = false;

  /** A list, oldest first, of those that are watched; a Set costs several times as much. */
  static #first: Watched | undefined;
  static #last: Watched | undefined;
  /** From here on they have their owners themselves. */
  static #young: Watched | undefined;

  constructor(owner: object) {
    this.#owner = owner;
  }

  /** undefined once it was collected */
  get owner(): object | undefined {
    return this.#owner ?? this.#weak?.deref();
  }

  /** Once, when the owner is gone. */
  abstract gone(): void;

  /** Until {@link Watched.unwatch}. */
  watch(): void {
    if (this.#listed) return;
    this.#listed = true;
    this.#before = Watched.#last;
    if (Watched.#last === undefined) Watched.#first = this;
    else Watched.#last.#after = this;
    Watched.#last = this;
    if (Watched.#young === undefined) {
      Watched.#young = this;
      // WeakRefs keep what they refer to as long.
      void turn.then(Watched.#letGo);
    }
    wait();
  }

  unwatch(): void {
    if (!this.#listed) return;
    this.#listed = false;
    if (Watched.#young === this) Watched.#young = this.#after;
    if (this.#before === undefined) Watched.#first = this.#after;
    else this.#before.#after = this.#after;
    if (this.#after === undefined) Watched.#last = this.#before;
    else this.#after.#before = this.#before;
    this.#before = undefined;
    this.#after = undefined;
  }

  /** All that is watched, oldest first. */
  static all(): Watched[] {
    const all: Watched[] = [];
    for (let each = Watched.#first; each !== undefined; each = each.#after) all.push(each);
    return all;
  }

  static readonly #letGo = () => {
    for (let each = Watched.#young; each !== undefined; each = each.#after) {
      each.#weak = new WeakRef(each.#owner as object);
      each.#owner = undefined;
    }
    Watched.#young = undefined;
  };

  /** @internal */
  static collected(): void {
    waiting = false;
    if (Watched.#first !== undefined) wait();
    for (const each of Watched.all()) {
      if (each.owner !== undefined || !each.#listed) continue;
      each.unwatch();
      each.gone();
    }
  }
}

const turn = Promise.resolve();

/** Whether {@link collections} has its object. */
let waiting = false;

/**
 * Of one object that nobody has, so that each full collection takes it. Of the owners themselves it would be dear: V8
 * copies in each small collection, and keeps until a full one, what was registered, even if it was unregistered at once.
 */
const collections = new FinalizationRegistry<undefined>(() => Watched.collected());

function wait(): void {
  if (waiting) return;
  waiting = true;
  collections.register({}, undefined);
}

class Once extends Watched {
  readonly gone: () => void;

  constructor(owner: object, gone: () => void) {
    super(owner);
    this.gone = gone;
  }
}

/** Calls `gone` once the owner was collected, to which it must not refer, unless {@link Watched.unwatch} came first. */
export function whenCollected(owner: object, gone: () => void): Watched {
  const each = new Once(owner, gone);
  each.watch();
  return each;
}
