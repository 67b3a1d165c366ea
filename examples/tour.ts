// SPDX-License-Identifier: MIT
/**
 * Everything this project is for, once round: `npm start`, or
 * `scripts/guest --share out -- node examples/tour.ts [DIRECTORY [ITS NAME ON THE HOST]]`.
 *
 * Each step prints what it did and what the kernel says about it, and the tour ends with an
 * error where a step does not hold. The picture goes to DIRECTORY; default: what is shared
 * with the host (/share), or else a temporary directory.
 *
 * @module
 */
import { existsSync } from 'node:fs';
import { arch, release } from 'node:os';
import { check, TourError } from './tour/check.ts';
import { tourCma } from './tour/cma.ts';
import { tourExporter } from './tour/exporter.ts';
import { heapTable, made, madeTable } from './tour/heaps.ts';
import { tourIon } from './tour/ion.ts';
import { counters, devices } from './tour/kernel.ts';
import { Peer } from './tour/peer.ts';
import { heading, line } from './tour/print.ts';

function checkDevices(): void {
  const missing = devices.filter(({ path }) => !existsSync(path));
  if (missing.length === 0) return;
  const what = missing.map(({ path, module }) => `${path} (module ${module})`).join(', ');
  throw new TourError(
    `This machine lacks ${what}. Boot a guest that has them: npm start, or scripts/guest -- node examples/tour.ts`,
  );
}

/** Both second processes get ready while the first is busy. */
const peers: Promise<Peer>[] = [];

function startPeer(script: string): Promise<Peer> {
  const peer = Peer.start(script);
  // Whoever waits for it sees the error.
  peer.catch(() => {});
  peers.push(peer);
  return peer;
}

try {
  checkDevices();
  const ionPeer = startPeer('ion-peer.ts');
  const pngPeer = startPeer('png-peer.ts');
  line('dmabuf', `Linux ${release()} ${arch()}, Node ${process.versions.node}`);

  heading('1  The exporter: a page of the kernel, seen three ways');
  tourExporter();

  heading('2  ION: one buffer, two processes');
  await tourIon(ionPeer);

  heading('3  cma_mem: a picture without a copy');
  const [, , wanted, onHost] = process.argv;
  const picture = await tourCma({ wanted, onHost }, pngPeer);

  heading('4  What was there, and what is left');
  heapTable();
  madeTable();
  for (const buffer of made()) buffer.close();
  for (const { name, own } of devices) {
    const { buffers, bytes } = counters(name);
    line(name, `${buffers} ${buffers === 1 ? 'buffer' : 'buffers'}, ${bytes} bytes${own > 0 ? ' (its own page)' : ''}`);
    check(buffers === own, `${name} still counts ${buffers} buffers after everything was closed`);
  }

  line();
  line('picture', picture.path);
  line('', picture.where);
} catch (error) {
  if (!(error instanceof TourError)) throw error;
  console.error(`tour: ${error.message}`);
  process.exitCode = 1;
} finally {
  for (const peer of await Promise.allSettled(peers)) if (peer.status === 'fulfilled') peer.value.stop();
}
