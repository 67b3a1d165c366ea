// SPDX-License-Identifier: MIT
// Tries to open every device, and prints the errors, those of the heaps that are listed, and the figures it may have.
import { CmaMem, Exporter, heapStats, heaps, openHeap } from 'dmabuf';

const attempts = [() => Exporter.open(), () => openHeap('ion'), () => openHeap('cma-mem'), () => CmaMem.open()];
const errors = [];
for (const attempt of attempts) {
  try {
    attempt();
    errors.push({});
  } catch (error) {
    const { code, errno, syscall, path, message } = error;
    errors.push({ code, errno, syscall, path, message });
  }
}
const listed = heaps().filter(({ error }) => error !== undefined);
const codes = listed.map(({ path, error }) => [path, error.code]);
console.log(JSON.stringify({ errors, listed: codes, figures: heapStats() }));
