// SPDX-License-Identifier: MIT
import { accessSync, constants, mkdirSync, mkdtempSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { CmaMem } from 'dmabuf';
import { check } from './check.ts';
import { remember } from './heaps.ts';
import { counted, described } from './kernel.ts';
import type { Peer } from './peer.ts';
import { checksum, drawLandscape } from './picture.ts';
import { line } from './print.ts';

const WIDTH = 800;
const HEIGHT = 480;

/** Where the picture went. */
export interface Picture {
  path: string;
  /** how to find it, where that is not clear from the path */
  where: string;
}

/** Where the picture is wanted. */
export interface Place {
  wanted: string | undefined;
  /** what the host calls that directory */
  onHost: string | undefined;
}

const PICTURE = 'tour.png';
const SHARED = '/share';

function isWritable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK);
    return statSync(directory).dev !== statSync('/').dev;
  } catch {
    return false;
  }
}

function chooseDirectory({ wanted, onHost }: Place): { directory: string; where: string } {
  if (wanted !== undefined) {
    mkdirSync(wanted, { recursive: true });
    return { directory: resolve(wanted), where: onHost === undefined ? '' : `on the host: ${join(onHost, PICTURE)}` };
  }
  if (isWritable(SHARED)) return { directory: SHARED, where: 'on the host: in the directory given to --share' };
  const directory = mkdtempSync(join(tmpdir(), 'dmabuf-picture-'));
  return { directory, where: 'a temporary directory of this machine: scripts/guest --share DIR keeps it' };
}

/** A frame of contiguous memory, drawn here, made a PNG by another process. */
export async function tourCma(place: Place, second: Promise<Peer>): Promise<Picture> {
  const { directory, where } = chooseDirectory(place);
  const path = join(directory, PICTURE);

  using cma = CmaMem.open();
  const region = await cma.allocate(WIDTH * HEIGHT * 4, { name: 'picture' });
  line('CMEM_ALLOCATE', `${WIDTH} x ${HEIGHT} x 4 = ${region.length} bytes at 0x${region.physicalBase.toString(16)}`);
  line('', counted('cma_mem'));

  using frame = region.map();
  const pixels = new Uint32Array(frame.buffer);
  check(
    pixels.every((pixel) => pixel === 0),
    'fresh memory is not zero',
  );
  const begin = Date.now();
  drawLandscape(pixels, WIDTH, HEIGHT);
  line('this process', `pid ${process.pid}: draws into the mapping of the device, ${Date.now() - begin} ms`);

  const buffer = remember(region.export(), '/dev/cma_mem');
  line('CMEM_IOC_EXPORT', `the same memory as a dma-buf, descriptor ${buffer.fd}`);
  line('', described(buffer));

  const peer = await second;
  try {
    await peer.socket.send({ width: WIDTH, height: HEIGHT, path }, [buffer]);
    line('unix socket', `the descriptor goes to pid ${peer.pid}`);
    const answer = (await peer.answer()) as { checksum: number; drawn: number; bytes: number; ms: number };
    check(answer.drawn === WIDTH * HEIGHT, `${WIDTH * HEIGHT - answer.drawn} pixels were never drawn`);
    check(answer.checksum === checksum(pixels), 'the other process saw another picture');
    line('the other process', `${answer.drawn} of ${WIDTH * HEIGHT} pixels are drawn, their checksum is ours`);
    line('', `a PNG of ${answer.bytes} bytes, ${answer.ms} ms`);
    check(statSync(path).size === answer.bytes, `${path} has ${statSync(path).size} bytes`);
  } finally {
    await peer.end();
  }
  return { path, where };
}
