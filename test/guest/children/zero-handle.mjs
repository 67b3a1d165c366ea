// SPDX-License-Identifier: MIT
/** Asks for the caches of handle 0, with a dma-buf of /dev/ion as standard input, and prints what it is told. */
import { DmaBuf } from 'dmabuf';
import { IonClient } from 'dmabuf/ion-handles';

const client = IonClient.open();
const mapping = DmaBuf.fromFd(0).map();
const codes = ['cleanCaches', 'invalidateCaches', 'cleanInvalidateCaches'].map((name) => {
  try {
    client[name](0, mapping);
    return 'done';
  } catch (error) {
    return error.code;
  }
});
console.log(codes.join(' '));
