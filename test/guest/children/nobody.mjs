// SPDX-License-Identifier: MIT
// Tries to open every device, and prints the errors.
import { CmaMem, Exporter, openHeap } from 'dmabuf';

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
console.log(JSON.stringify(errors));
