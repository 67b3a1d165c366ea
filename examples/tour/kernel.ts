// SPDX-License-Identifier: MIT
/** What the kernel itself says, in /proc and /sys. */
import { readFileSync } from 'node:fs';
import type { DmaBuf } from 'dmabuf';
import { check } from './check.ts';

/** The devices of the tour; `own`: buffers a module has for itself. */
export const devices = [
  { name: 'exporter', path: '/dev/exporter', module: 'exporter', own: 1 },
  { name: 'ion', path: '/dev/ion', module: 'ion_lite', own: 0 },
  { name: 'cma_mem', path: '/dev/cma_mem', module: 'cma_mem', own: 0 },
] as const;

/** How many buffers and bytes a module has handed out: /sys/class/misc/NAME. */
export function counters(name: (typeof devices)[number]['name']): { buffers: number; bytes: number } {
  const read = (file: string) => Number(readFileSync(`/sys/class/misc/${name}/${file}`, 'utf8'));
  return { buffers: read('buffers'), bytes: read('bytes') };
}

export function counted(name: (typeof devices)[number]['name']): string {
  const { buffers, bytes } = counters(name);
  return `/sys/class/misc/${name}: ${buffers} ${buffers === 1 ? 'buffer' : 'buffers'}, ${bytes} bytes`;
}

/** Lines of /proc/self/fdinfo of a dma-buf. */
export function fdinfo(buffer: DmaBuf): { size: number; exporter: string; name: string } {
  const text = readFileSync(`/proc/self/fdinfo/${buffer.fd}`, 'utf8');
  const value = (key: string) => new RegExp(`^${key}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
  const info = { size: Number(value('size')), exporter: value('exp_name'), name: value('name') };
  check(info.size === buffer.size, `fdinfo says ${info.size} bytes, lseek says ${buffer.size}`);
  check(info.name === buffer.name, `fdinfo says '${info.name}', the library says '${buffer.name}'`);
  return info;
}

/** The same in one line. */
export function described(buffer: DmaBuf): string {
  const { size, exporter, name } = fdinfo(buffer);
  return `fdinfo: size ${size}, exp_name ${exporter}${name === '' ? '' : `, name ${name}`}`;
}
