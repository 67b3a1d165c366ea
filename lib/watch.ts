// SPDX-License-Identifier: MIT
/** Waiting for sockets on the loop of this thread. @module */
import type { OwnedHandle } from './handle.js';
import { native } from './native.js';

/** Sockets something waits for: they stay alive without being referenced. */
const busy = new Set<object>();

/**
 * Watches a descriptor for an owner the watch does not keep alive.
 *
 * @param quiet - events that are wanted as long as something else keeps owner and process alive
 */
export function watch<T extends object>(
  owner: T,
  handle: OwnedHandle,
  events: number,
  ready: (owner: T, events: number) => void,
  quiet = 0,
): number {
  if (events === 0) busy.delete(owner);
  else busy.add(owner);
  const all = events | quiet;
  if (handle.polled) return native.pollerUpdate(handle.poller, all, events !== 0);
  if (all === 0) return 0;
  const weak = new WeakRef(owner);
  const poller = handle.poll((happened) => {
    const target = weak.deref();
    if (target !== undefined) ready(target, happened);
  });
  return poller < 0 ? poller : native.pollerUpdate(poller, all, events !== 0);
}

/** Nothing waits for it any more. */
export function unwatch(owner: object): void {
  busy.delete(owner);
}
