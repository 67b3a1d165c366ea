// SPDX-License-Identifier: MIT
/** Waiting for sockets on the loop of this thread. @module */
import type { OwnedHandle } from './handle.js';
import { native } from './native.js';

/** Sockets something waits for: they stay alive without being referenced. */
const busy = new Set<object>();

/** Watches a descriptor for an owner the watch does not keep alive. */
export function watch<T extends object>(
  owner: T,
  handle: OwnedHandle,
  events: number,
  ready: (owner: T, events: number) => void,
): number {
  if (events === 0) busy.delete(owner);
  else busy.add(owner);
  if (handle.polled) return native.pollerUpdate(handle.poller, events);
  if (events === 0) return 0;
  const weak = new WeakRef(owner);
  const poller = handle.poll((happened) => {
    const target = weak.deref();
    if (target !== undefined) ready(target, happened);
  });
  return poller < 0 ? poller : native.pollerUpdate(poller, events);
}

/** Nothing waits for it any more. */
export function unwatch(owner: object): void {
  busy.delete(owner);
}
