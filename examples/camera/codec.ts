// SPDX-License-Identifier: MIT
/** Codecs for the examples: those of this machine, or vicodec's, which are made of software. */
import { spawnSync } from 'node:child_process';
import { Codec } from 'dmabuf/v4l2';
import { NoCamera } from './open.ts';

function find(): { encoder: Codec; decoder: Codec } {
  const encoder = Codec.open({ from: 'RGB3', to: 'FWHT' });
  try {
    return { encoder, decoder: Codec.open({ from: 'FWHT' }) };
  } catch (error) {
    encoder.close();
    throw error;
  }
}

/** An encoder of RGB3 to FWHT and a decoder of that. */
export function openCodecs(): { encoder: Codec; decoder: Codec } {
  try {
    return find();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENODEV') throw error;
  }
  if (process.getuid?.() !== 0) throw new NoCamera('This machine has no codec for FWHT: sudo modprobe vicodec');
  const { status, stderr, error } = spawnSync('modprobe', ['vicodec'], { encoding: 'utf8' });
  if (status !== 0) {
    throw new NoCamera(
      `This machine has no codec for FWHT, and its kernel no vicodec (${error?.message ?? stderr.trim()}). The guest ` +
        'has one with a kernel of ours: scripts/guest --kernel lab -- node examples/camera-encode-decode.ts',
    );
  }
  console.error('no codec for FWHT here: loaded vicodec, which is one of software');
  return find();
}
