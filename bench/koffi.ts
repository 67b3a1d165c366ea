// SPDX-License-Identifier: MIT
/**
 * The same as here.ts without this library: system calls by koffi, the foreign-function interface most used with
 * Node.js. For each line "life BYTES COUNT" on standard input it does that COUNT times and prints the nanoseconds of
 * one. What koffi cannot do, keep the memory safe from a view that is used after munmap(), it does not do here either.
 *
 * @module
 */
import { createInterface } from 'node:readline';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const memfdCreate = libc.func('int memfd_create(const char *name, uint flags)');
const fallocate = libc.func('int fallocate(int fd, int mode, int64 offset, int64 length)');
const fcntl = libc.func('int fcntl(int fd, int command, int argument)');
const mmap = libc.func('void *mmap(void *address, size_t length, int prot, int flags, int fd, int64 offset)');
const munmap = libc.func('int munmap(void *address, size_t length)');
const close = libc.func('int close(int fd)');

/** MFD_CLOEXEC | MFD_ALLOW_SEALING, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW, PROT_READ | PROT_WRITE, MAP_SHARED */
const [FLAGS, ADD_SEALS, SEALS, PROT, SHARED] = [3, 1033, 6, 3, 1];

function life(size: number): void {
  const fd = memfdCreate('', FLAGS);
  if (fd < 0 || fallocate(fd, 0, 0, size) !== 0 || fcntl(fd, ADD_SEALS, SEALS) !== 0) throw new Error('memfd_create');
  const address = mmap(null, size, PROT, SHARED, fd, 0);
  new Uint8Array(koffi.view(address, size))[0] = 1;
  if (munmap(address, size) !== 0 || close(fd) !== 0) throw new Error('munmap');
}

for await (const line of createInterface({ input: process.stdin })) {
  const [size, count] = line.split(' ').slice(1).map(Number) as [number, number];
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) life(size);
  console.log((Number(process.hrtime.bigint() - start) / count).toFixed(1));
}
