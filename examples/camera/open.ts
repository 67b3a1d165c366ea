// SPDX-License-Identifier: MIT
/** A camera for the examples: that of this machine, or vivid's, which is none. */
import { spawnSync } from 'node:child_process';
import { Capture, videoDevices } from 'dmabuf/v4l2';

/** The example cannot go on, for a reason a person can mend. */
export class NoCamera extends Error {}

/** As the examples load vivid: two cameras, and for each an HDMI socket whose cable leads back to it. */
const VIVID = [
  ...['n_devs=2', 'node_types=0x101,0x101', 'num_inputs=4,2', 'input_types=0xe4,0xc'],
  ...['num_outputs=2,1', 'output_types=2,1'],
];

/** Loads vivid where there is nothing that does what is wanted, and this user may. */
export function withVivid(): void {
  if (process.getuid?.() !== 0) {
    throw new NoCamera(
      'This machine has no camera that this user may open. Plug one in, join the group of /dev/video0, or load one ' +
        `that is made of software: sudo modprobe vivid ${VIVID.join(' ')}`,
    );
  }
  const { status, stderr, error } = spawnSync('modprobe', ['vivid', ...VIVID], { encoding: 'utf8' });
  if (status === 0) {
    console.error('no camera here: loaded vivid, whose frames are a test pattern');
    return;
  }
  throw new NoCamera(
    `This machine has no camera, and its kernel no vivid (${error?.message ?? stderr.trim()}). The guest has one: ` +
      'scripts/guest -- node examples/camera-to-png.ts /tmp/camera.png',
  );
}

/** The first camera there is. */
export function openCamera(): Capture {
  if (!videoDevices().some(({ kind }) => kind === 'capture')) withVivid();
  return Capture.open();
}

/** Runs an example; where there is no camera it ends with a sentence and 1. */
export async function runExample(name: string, main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof NoCamera)) throw error;
    console.error(`${name}: ${error.message}`);
    process.exitCode = 1;
  }
}
