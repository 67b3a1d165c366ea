// SPDX-License-Identifier: MIT
/** The tables of the tour: heaps found, buffers made. */
import { type DmaBuf, heaps } from 'dmabuf';
import { fdinfo } from './kernel.ts';
import { table } from './print.ts';

const buffers: { buffer: DmaBuf; heap: string }[] = [];

/** Remembers a buffer for the table, and to be closed at the end. */
export function remember(buffer: DmaBuf, heap: string): DmaBuf {
  buffers.push({ buffer, heap });
  return buffer;
}

export function made(): DmaBuf[] {
  return buffers.map(({ buffer }) => buffer);
}

export function heapTable(): void {
  const rows = heaps().map(({ kind, name, path, contiguous, dma }) => [
    name,
    kind,
    path,
    contiguous ? 'contiguous' : 'scattered',
    dma ? 'DMA memory' : 'no DMA memory',
  ]);
  table(['heap', 'kind', 'device', 'memory', ''], rows);
}

export function madeTable(): void {
  const rows = buffers.map(({ buffer, heap }) => {
    const { size, exporter, name } = fdinfo(buffer);
    return [size, heap, exporter, name === '' ? '-' : name];
  });
  table(['size', 'from', 'exporter', 'name'], rows);
}
