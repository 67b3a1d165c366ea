// SPDX-License-Identifier: MIT
import { type HeapFigures, heapStats } from '../heap/stats.js';
import { type HeapInfo, heaps } from '../heaps.js';
import { type Column, json, paragraph, print, table } from './print.js';
import type { Args } from './usage.js';

interface Line {
  info: HeapInfo;
  figures: HeapFigures | undefined;
}

/** What a buffer is, in words. */
export function memoryOf({ contiguous, protected: secured }: { contiguous: boolean; protected: boolean }): string {
  return `${contiguous ? 'contiguous' : 'scattered'}${secured ? ', protected' : ''}`;
}

const columns: Column<Line>[] = [
  { title: 'KIND', value: ({ info }) => info.kind },
  { title: 'NAME', value: ({ info }) => info.name, least: 6 },
  { title: 'ID', value: ({ info }) => info.id, spare: 4 },
  { title: 'TYPE', value: ({ info }) => info.type, spare: 5 },
  { title: 'PATH', value: ({ info }) => info.path, least: 8, spare: 3 },
  { title: 'MEMORY', value: ({ info }) => (info.error?.code === 'ENOENT' ? '' : memoryOf(info)), least: 10, spare: 2 },
  { title: 'BUFFERS', value: ({ figures }) => figures?.buffers, spare: 6 },
  { title: 'KIB', value: ({ figures }) => figures && figures.bytes / 1024, spare: 1 },
  { title: 'STATE', value: ({ info }) => info.error?.code ?? 'ok' },
];

export async function run({ values }: Args<'heaps'>): Promise<number> {
  const all = heapStats();
  const lines = heaps({ absent: values.all ?? false }).map((info) => {
    const same = ({ path, name, id }: HeapFigures) => path === info.path && name === info.name && id === info.id;
    return { info, figures: all.find(same) };
  });
  if (values.json) {
    await print(
      json(lines.map(({ info, figures }) => ({ ...info, error: errorOf(info), stats: figures && statsOf(figures) }))),
    );
    return 0;
  }
  await print(table(columns, lines));
  for (const { info } of lines) if (info.error) await print(`\n${paragraph(info.error.message, 0)}`);
  return 0;
}

function errorOf({ error }: HeapInfo) {
  if (error === undefined) return undefined;
  const { message, code, errno, syscall, path } = error;
  return { message, code, errno, syscall, path };
}

function statsOf({ path: _path, name: _name, id: _id, ...stats }: HeapFigures) {
  return stats;
}
