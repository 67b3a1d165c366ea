// SPDX-License-Identifier: MIT
import type { DmaBuf } from '../dmabuf.js';
import type { Heap } from '../heap/heap.js';
import { heaps, isKind, openHeap } from '../heaps.js';
import { memoryOf } from './heaps.js';
import { runWith } from './inherited.js';
import { json, print, table } from './print.js';
import { type Args, size, UsageError } from './usage.js';

export async function run({ values, positionals, command }: Args<'alloc'>): Promise<number> {
  const length = size('SIZE', positionals[0] as string);
  using heap = open(values);
  const { name, cached } = values;
  using buffer = await heap.alloc(length, {
    ...(name === undefined ? {} : { name }),
    ...(cached === undefined ? {} : { cached }),
  });
  if (command) return await runWith([buffer], command);
  // Waiting for a signal keeps no process alive.
  const alive = setInterval(() => {}, 2 ** 31 - 1);
  try {
    const ended = interrupted();
    await show(heap, buffer, values.json ?? false);
    await ended;
    return 0;
  } finally {
    clearInterval(alive);
  }
}

function open({ from, heap: nameOrId, type, contiguous, protected: secured, cached }: Args<'alloc'>['values']): Heap {
  const heap = nameOrId !== undefined && /^\d+$/.test(nameOrId) ? Number(nameOrId) : nameOrId;
  const needs = {
    ...(contiguous === undefined ? {} : { contiguous }),
    ...(secured === undefined ? {} : { protected: secured }),
    ...(cached === undefined ? {} : { cached }),
  };
  const choice = {
    ...needs,
    ...(heap === undefined ? {} : { heap }),
    // openHeap() says which there are.
    ...(type === undefined ? {} : { type: type as 'system' }),
  };
  if (from !== undefined) {
    if (isKind(from) || from.includes('/')) return openHeap(from, choice);
    throw new UsageError(`--from ${from}: ion, dma-heap, cma-mem, udmabuf, memfd or the path of a device is expected.`);
  }
  if (heap === undefined && type === undefined) return openHeap({ dma: true, ...needs });
  // Only those of ion have an id and a type.
  const named = heaps().find(({ name }) => name === heap);
  return openHeap(named?.path ?? 'ion', choice);
}

/** Resolves when a signal asks this process to end. */
function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
  });
}

async function show(heap: Heap, buffer: DmaBuf, asJson: boolean): Promise<void> {
  const { kind, path, contiguous, protected: secured, dma } = heap;
  const { inode, length, name, fd } = buffer;
  const { pid } = process;
  if (asJson) {
    const made = { inode, length, size: buffer.size, name, dma, contiguous, protected: secured };
    await print(json({ ...made, heap: { kind, name: heap.name, path }, pid, fd }));
    return;
  }
  await print(
    table(
      [
        { title: 'INODE', value: () => inode },
        { title: 'KIB', value: () => buffer.size / 1024 },
        { title: 'NAME', value: () => name, least: 8 },
        { title: 'HEAP', value: () => heap.name, least: 8 },
        { title: 'MEMORY', value: () => memoryOf(heap), least: 10, spare: 1 },
        { title: 'PID', value: () => pid },
        { title: 'FD', value: () => fd },
      ],
      [buffer],
    ),
  );
  process.stderr.write('It is held until this is interrupted (Ctrl-C).\n');
}
