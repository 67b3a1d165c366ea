// SPDX-License-Identifier: MIT
/** What to do about an error of the kernel, said in a sentence. @module */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { constants, totalmem } from 'node:os';
import type { Origin } from './dmabuf.js';
import type { DeviceLimit } from './heap/stats.js';

const { errno } = constants;

/** Which of our modules makes a device. */
export const moduleOf: Readonly<Record<string, string>> = {
  '/dev/exporter': 'exporter',
  '/dev/ion': 'ion_lite',
  '/dev/cma_mem': 'cma_mem',
};

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** A line of /proc/meminfo in bytes. */
export function memoryInfo(name: string): number | undefined {
  const line = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(read('/proc/meminfo'));
  return line === null ? undefined : Number(line[1]) * 1024;
}

/** Bytes in words. */
export function kibibytes(bytes: number): string {
  return `${Math.floor(bytes / 1024)} KiB`;
}

function missing(path: string): string {
  if (path.startsWith('/dev/dma_heap/') && existsSync('/dev/dma_heap')) {
    return 'This machine has dma-heaps, but not that one: heaps() lists what it has.';
  }
  if (path.startsWith('/dev/dma_heap')) {
    return 'This kernel is built without it (CONFIG_DMABUF_HEAPS), and the module ion_lite, which has such heaps then, is not loaded or has dma_heap_nodes=off: run `modprobe ion_lite` as root. heaps() lists what this machine has.';
  }
  if (path === '/dev/udmabuf') {
    return 'This kernel is built without it (CONFIG_UDMABUF), or its module is not loaded: try `modprobe udmabuf` as root.';
  }
  const module = moduleOf[path];
  if (module === undefined) return 'heaps() lists what this machine has.';
  return `The kernel module that makes it is not loaded: run \`modprobe ${module}\` as root, or boot the guest with scripts/guest.`;
}

/** Whom a file belongs to, in words. */
export function ownerOf(path: string): { gid: number; group: string; mode: number; words: string } {
  const { uid, gid, mode } = statSync(path);
  const group = new RegExp(`^([^:]+):[^:]*:${gid}:`, 'm').exec(read('/etc/group'))?.[1] ?? String(gid);
  const words = `user ${uid}, group ${group}, mode ${(mode & 0o777).toString(8).padStart(4, '0')}`;
  return { gid, group, mode, words };
}

function refused(path: string): string {
  try {
    const { gid, group, mode, words } = ownerOf(path);
    const cure =
      (mode & 0o060) === 0o060 && gid !== 0
        ? `add this user to the group ${group} (\`usermod -aG ${group} USER\`) and log in again`
        : 'run as root, or give the device to a group by a udev rule';
    return `It belongs to ${words}: ${cure}.`;
  } catch {
    return 'Run as root, or give the device to a group by a udev rule.';
  }
}

/** What there is of CMA, and how there would be more. */
export function cmaAdvice(): string {
  const total = memoryInfo('CmaTotal');
  const free = memoryInfo('CmaFree');
  if (total === undefined || free === undefined) {
    return 'This kernel is built without CMA (CONFIG_DMA_CMA): a piece is one block of the page allocator at most.';
  }
  if (total === 0) return 'This kernel has no CMA area: cma=SIZE on its command line makes one.';
  return `${kibibytes(free)} of ${kibibytes(total)} of CMA are free; cma=SIZE on the kernel command line makes it larger.`;
}

/**
 * How much memory there is.
 *
 * @param whose - the heap it is for
 * @param left - a sentence about the memory that is available
 */
export function memoryAdvice(contiguous: boolean, whose = 'it', left = ''): string {
  const available = memoryInfo('MemAvailable');
  const now = available === undefined ? '' : ` ${kibibytes(available)} of memory are available now.${left}`;
  if (!contiguous) return `There is not that much memory for ${whose}.${now} Close buffers that are no longer needed.`;
  return `There is no piece of contiguous memory that large for ${whose}. ${cmaAdvice()}`;
}

/** What a block of the page allocator is. */
export function blockAdvice(name: string): string {
  return `There is no piece of contiguous memory that large for ${name}, whose buffers are one free block of the page allocator each, of a few MiB at most: a heap of type dma or carveout has larger ones.`;
}

/** How much memory a heap has that has its own, which is as much as `given` says. */
export function carveoutAdvice(
  name: string,
  length: number,
  size: number,
  largestFree: number,
  given = "in the board's table: heaps= of ion_lite, or else the device tree",
): string {
  const left = `of its ${kibibytes(size)} the largest that is free has ${kibibytes(largestFree)}`;
  if (length <= largestFree) return `The heap ${name} had no piece of memory that large, and has one now: ${left}.`;
  return `The heap ${name} has no piece of memory that large: ${left}. Close buffers that are no longer needed, or give it more ${given}.`;
}

/** What a module refuses however much memory there is, where `size` bytes are so much. */
export function limitAdvice(size: number, { bytes, maxBytes }: DeviceLimit): string | undefined {
  const half = totalmem() / 2;
  if (size > half) return `Its module gives no buffer more than half of this machine's memory, ${kibibytes(half)}.`;
  if (bytes + size <= maxBytes) return undefined;
  return `Its module hands out ${kibibytes(maxBytes)} of memory at most (max_bytes), and ${kibibytes(bytes)} of them are taken, by all programs together: close buffers that are no longer needed, or load it with a larger max_bytes=.`;
}

/** What an open file may have, where no more than that can be the reason: what others have counts here, too. */
function fileAdvice(size: number, { bytes, maxBytesPerFile }: DeviceLimit): string | undefined {
  if (maxBytesPerFile === undefined || bytes + size <= maxBytesPerFile) return undefined;
  return `Its module lets an open file have ${kibibytes(maxBytesPerFile)} of memory at most (max_bytes_per_file), all its buffers together, wherever they are: close those that are no longer needed, or load it with a larger max_bytes_per_file=.`;
}

/**
 * Why a module has no memory.
 *
 * @param size - bytes, whole pages
 * @param memory - says what there is, where it is not the limit, or a larger one would not do
 */
export function shortageAdvice(size: number, limit: DeviceLimit | undefined, memory: () => string): string {
  const reached = limit === undefined ? undefined : (limitAdvice(size, limit) ?? fileAdvice(size, limit));
  if (reached === undefined) return memory();
  return size > (memoryInfo('MemAvailable') ?? size) ? `${reached} ${memory()}` : reached;
}

/** What to do where open(2) of a device failed. */
export function openAdvice(error: number, path: string): string | undefined {
  switch (-error) {
    case errno.ENOENT:
    case errno.ENODEV:
    case errno.ENXIO:
      return missing(path);
    case errno.EACCES:
    case errno.EPERM:
      return refused(path);
    default:
      return descriptorAdvice(error);
  }
}

/** What to do where node:fs could not read something, which the permission model of Node.js may be in the way of. */
export function readAdvice(error: unknown, number: number, path: string): string | undefined {
  if ((error as NodeJS.ErrnoException).code !== 'ERR_ACCESS_DENIED') return openAdvice(number, path);
  return `Node.js runs with --permission, and --allow-fs-read=${path} is missing.`;
}

/** What to do where there is no room for another descriptor. */
export function descriptorAdvice(error: number): string | undefined {
  if (-error === errno.EMFILE) {
    return 'This process has no descriptor left: close buffers that are no longer needed, or raise `ulimit -n`.';
  }
  if (-error === errno.ENFILE) return 'The whole system has no descriptor left (fs.file-max).';
  return undefined;
}

/** What to do with a descriptor that is not O_RDWR. */
export function accessAdvice(writeOnly: boolean): string {
  if (!writeOnly) {
    return 'The descriptor is not O_RDWR (or sealed against writing), and JavaScript has no read-only memory: copy() reads the contents.';
  }
  return 'The descriptor is write-only, and there is no memory of that kind: have whoever gave it open it O_RDWR.';
}

/**
 * What to do where mmap(2) failed.
 *
 * @param dma - whether it was that of a dma-buf or a device, not of a memfd
 */
export function mapAdvice(error: number, dma: boolean): string | undefined {
  switch (-error) {
    case errno.ENOMEM:
      return `There is no room for it in the address space of this process, or it has too many mappings, of which ours are at most three quarters of vm.max_map_count (${read('/proc/sys/vm/max_map_count').trim() || 'unknown'}): close those that are no longer needed, or raise it by sysctl.`;
    case errno.EPERM:
      if (!dma)
        return 'It is sealed against writing, and JavaScript has no read-only memory: copy() reads the contents.';
      return 'It comes from a protected heap: devices may use it, the CPU may not look. A heap that is not protected has memory for both.';
    case errno.ENODEV:
      return 'Its exporter cannot be mapped by programs.';
    case errno.ENOTSUP:
      return 'This runtime lets no ArrayBuffer have memory of others (Electron is built so): copy() reads the contents, and a process of Node.js can map it.';
    default:
      return descriptorAdvice(error);
  }
}

/**
 * What to do where an allocation failed.
 *
 * @param left - what is to be said of memory that is available
 */
export function allocationAdvice(error: number, path: string, contiguous: boolean, left = ''): string | undefined {
  switch (-error) {
    case errno.ENOMEM:
    case errno.ENOSPC:
      return memoryAdvice(contiguous, 'it', left);
    case errno.EFBIG:
      return 'The size of files is limited for this process (`ulimit -f`), and a memfd is one.';
    case errno.ENOTTY:
      return `${path} is not the device its name says: heaps() lists what this machine has.`;
    case errno.ENODEV:
      return 'The heap is gone: heaps() lists what this machine has.';
    case errno.EACCES:
    case errno.EPERM:
      return refused(path);
    default:
      return descriptorAdvice(error);
  }
}

/** Why a driver did not take a buffer of `size` bytes. */
export function importAdvice(error: number, dma: boolean, size: number, heap: Origin | undefined): string | undefined {
  if (-error !== errno.EFAULT && -error !== errno.EINVAL) return descriptorAdvice(error);
  if (!dma)
    return 'It is a memfd, which stands in for a dma-buf where there is no device: a heap of DMA memory has what drivers take.';
  if (heap?.protected) {
    return `It comes from ${heap.name}, which is protected: a driver that uses the CPU is refused it, as programs are.`;
  }
  const large = `a larger buffer: this one has ${kibibytes(size)}`;
  if (heap?.contiguous) return `It is one piece from ${heap.name}. The driver may want memory elsewhere, or ${large}.`;
  const pieces =
    heap === undefined
      ? 'It may be in pieces, depending on the heap it is from'
      : `It comes from ${heap.name}, whose memory is in pieces`;
  return `${pieces}: a driver that wants one piece of memory takes buffers of contiguous heaps, which heaps() lists: openHeap('ion', { contiguous: true }). It may also want ${large}.`;
}
