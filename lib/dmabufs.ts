// SPDX-License-Identifier: MIT
/** The dma-bufs of the whole machine. @module */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { basename } from 'node:path';
import { descriptorAdvice, readAdvice } from './advice.js';
import { errnoOf, systemError } from './errors.js';

const { errno } = osConstants;

/** A process that holds a dma-buf. */
export interface DmaBufHolder {
  /** its id */
  pid: number;
  /** its program as it was called, without the folder */
  command: string;
  /** numbers of its descriptors of the buffer */
  fds: number[];
  /** how often it has mapped the buffer, or parts of it */
  mappings: number;
}

/** One dma-buf, whoever made it. */
export interface DmaBufInfo {
  /** what tells it from others: {@link DmaBuf.inode} */
  inode: number;
  /** bytes, whole pages; unknown where it is only mapped and debugfs cannot be read */
  size?: number;
  /** the driver that made it; unknown as the size is */
  exporter?: string;
  /** what it was named (DMA_BUF_SET_NAME), or `''` */
  name: string;
  /** by pid; none where only the kernel holds it, or processes that may not be looked into */
  holders: DmaBufHolder[];
  /** devices attached to it; unknown where debugfs cannot be read */
  devices?: string[];
}

/** Where the kernel lists them for root, with CONFIG_DEBUG_FS. */
const BUFINFO = '/sys/kernel/debug/dma_buf/bufinfo';
const PREFIX = '/dmabuf:';

/** Undefined where a process has ended meanwhile, or may not be looked into. */
function ifSeen<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const { code, syscall = 'read', path } = error as NodeJS.ErrnoException;
    const number = errnoOf(error);
    // Nothing could be seen at all.
    if (code === 'ERR_ACCESS_DENIED') throw systemError(number, syscall, '/proc', readAdvice(error, number, '/proc'));
    if ([errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM].includes(-number)) return undefined;
    throw systemError(number, syscall, path, descriptorAdvice(number));
  }
}

const text = (path: string) => ifSeen(() => readFileSync(path, 'utf8'));
const entries = (path: string) => ifSeen(() => readdirSync(path)) ?? [];
const field = (info: string, key: string) => new RegExp(`^${key}:\\t(.*)$`, 'm').exec(info)?.[1];

/** Not the name of its first thread, which newer Node.js has named MainThread. */
function commandOf(pid: number): string {
  const [program = ''] = (text(`/proc/${pid}/cmdline`) ?? '').split('\0');
  // A thread of the kernel has no command line.
  return basename(program) || (text(`/proc/${pid}/comm`) ?? '').trim();
}

/** What is found out about the buffers, one place after the other. */
class Census {
  readonly #found = new Map<number, DmaBufInfo>();

  get all(): DmaBufInfo[] {
    return [...this.#found.values()].sort((a, b) => a.inode - b.inode);
  }

  /** A list of debugfs. */
  addList(list: string): void {
    // Each column has the width that the kernel gives it (dma_buf_debug_show): more than fits into a name, which may have
    // line ends.
    let devices: string[] | undefined;
    for (const line of list.split('\n')) {
      const [, size, exporter, inode, name = ''] =
        /^(\d{8,})\t[\da-f]{8}\t[\da-f]{8}\t\d{8,}\t(.*?)\t(\d{8,})\t(.*)$/.exec(line) ?? [];
      if (inode !== undefined) {
        devices = [];
        const known = { size: Number(size), exporter: exporter ?? '', devices };
        Object.assign(this.#buffer(Number(inode), name === '<none>' ? '' : name), known);
      } else if (line.startsWith('\t') && !line.endsWith(':') && !line.includes('fence')) devices?.push(line.trim());
    }
  }

  /** What a process holds. */
  addProcess(pid: number): void {
    for (const fd of entries(`/proc/${pid}/fd`)) {
      const path = `/proc/${pid}/fd/${fd}`;
      if (!ifSeen(() => readlinkSync(path))?.startsWith(PREFIX)) continue;
      const inode = ifSeen(() => statSync(path).ino);
      const info = text(`/proc/${pid}/fdinfo/${fd}`) ?? '';
      const exporter = field(info, 'exp_name');
      // A file of that name, or gone.
      if (inode === undefined || exporter === undefined) continue;
      const buffer = this.#buffer(inode, field(info, 'name') ?? '');
      Object.assign(buffer, { size: Number(field(info, 'size')), exporter });
      this.#holder(buffer, pid).fds.push(Number(fd));
    }
    for (const line of (text(`/proc/${pid}/maps`) ?? '').split('\n')) {
      // addresses, permissions, offset, device of no disk, inode, path
      const [, inode, name] = /^\S+ \S+ \S+ 00:\S+ (\d+) +\/dmabuf:(.*)$/.exec(line) ?? [];
      if (inode !== undefined) this.#holder(this.#buffer(Number(inode), name ?? ''), pid).mappings++;
    }
  }

  #buffer(inode: number, name: string): DmaBufInfo {
    const buffer = this.#found.get(inode) ?? { inode, name, holders: [] };
    this.#found.set(inode, buffer);
    return buffer;
  }

  #holder(buffer: DmaBufInfo, pid: number): DmaBufHolder {
    const known = buffer.holders.find((holder) => holder.pid === pid);
    if (known !== undefined) return known;
    const holder = { pid, command: commandOf(pid), fds: [], mappings: 0 };
    buffer.holders.push(holder);
    return holder;
  }
}

/**
 * The dma-bufs of the whole machine, whoever made them, and who holds them: out of the descriptors and mappings of
 * each process, and out of debugfs, which knows those that only the kernel holds, too. Root sees all; others see what
 * processes of their own hold. Reads /proc only, but all of it: milliseconds, or more where there are many processes.
 *
 * @throws SystemError EMFILE and the like
 */
export function dmabufs(): DmaBufInfo[] {
  const census = new Census();
  // Most may not read that, and say nothing either.
  if (process.permission?.has('fs.read', BUFINFO) !== false) census.addList(text(BUFINFO) ?? '');
  const processes = entries('/proc').filter((entry) => /^\d+$/.test(entry));
  for (const pid of processes.map(Number).sort((a, b) => a - b)) census.addProcess(pid);
  return census.all;
}
