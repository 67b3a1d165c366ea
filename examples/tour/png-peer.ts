// SPDX-License-Identifier: MIT
/** The second process of the cma_mem step: makes a PNG of a frame, straight out of the dma-buf. */
import { writeFileSync } from 'node:fs';
import { FdSocket } from 'dmabuf';
import { PNG } from 'pngjs';
import { receiveBuffer } from './peer.ts';
import { checksum, countDrawn } from './picture.ts';

using socket = await FdSocket.connect(process.argv[2] ?? '');
const { value, buffer } = await receiveBuffer(socket);
const { width, height, path } = value as { width: number; height: number; path: string };

const begin = Date.now();
const { png, ...seen } = buffer.read(({ buffer: memory }) => {
  const pixels = new Uint32Array(memory, 0, width * height);
  const image = new PNG({ width, height });
  // The memory of the frame itself: what is encoded was never copied.
  image.data = Buffer.from(memory, 0, width * height * 4);
  const encoded = PNG.sync.write(image, { deflateLevel: 3, filterType: 1 });
  return { png: encoded, checksum: checksum(pixels), drawn: countDrawn(pixels) };
});
writeFileSync(path, png);

await socket.send({ ...seen, bytes: png.length, ms: Date.now() - begin });
buffer.close();
