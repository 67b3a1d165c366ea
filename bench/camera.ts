// SPDX-License-Identifier: MIT
/**
 * The frames of a camera by the library, and by v4l2-ctl after it: `camera.ts V4L2-CTL FRAMES`. Prints lines of
 * nanoseconds of a frame, the library's and those of v4l2-ctl: "time", from one to the next; "cpu", the processor's; and
 * "user", those of them that are no kernel's.
 *
 * @module
 */
import { spawnSync } from 'node:child_process';
import { Capture } from 'dmabuf/v4l2';

const [, , program = 'v4l2-ctl', words = '600'] = process.argv;
const frames = Number(words);
/** Frames before those that count: code is compiled as it gets hot. */
const before = Math.ceil(frames / 2);
const BUFFERS = 4;

interface Used {
  time: number;
  user: number;
  system: number;
}

const ofOne = ({ time, user, system }: Used) => ({ time, cpu: user + system, user });

async function library(camera: Capture): Promise<Used> {
  let begin: { cpu: NodeJS.CpuUsage; at: bigint } | undefined;
  const stream = camera.frames({ count: BUFFERS });
  for await (using frame of stream) {
    if (stream.frames === before) begin = { cpu: process.cpuUsage(), at: frame.timestamp };
    if (stream.frames < before + frames || begin === undefined) continue;
    const { user, system } = process.cpuUsage(begin.cpu);
    const time = Number(frame.timestamp - begin.at) / frames;
    return { time, user: (user * 1000) / frames, system: (system * 1000) / frames };
  }
  throw new Error('the camera has ended');
}

/** Nanoseconds of so many frames: of the clock, and of the processor, as bash counts them. */
function run(path: string, count: number): Used {
  const command = `TIMEFORMAT='%3R %3U %3S'; time "$0" -d "$1" --stream-mmap=${BUFFERS} --stream-count=${count} &>/dev/null`;
  const { status, stderr } = spawnSync('bash', ['-c', command, program, path], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`v4l2-ctl ended with ${status}`);
  const [time = 0, user = 0, system = 0] = stderr
    .trim()
    .split(' ')
    .map((seconds) => Number(seconds) * 1e9);
  return { time, user, system };
}

/** What more of them take: its beginning and its end do not count. */
function peer(path: string): Used {
  const [few, many] = [run(path, before), run(path, before + frames)];
  const of = (name: keyof Used) => (many[name] - few[name]) / frames;
  return { time: of('time'), user: of('user'), system: of('system') };
}

const camera = Capture.open({ driver: 'vivid' });
const { path } = camera;
camera.setControls({ osd_text_mode: 'None' });
const { width, height } = camera.setFormat({ width: 320, height: 180, pixelFormat: 'GREY' });
const [fastest] = camera
  .intervals('GREY', width, height)
  .map(({ min }) => min)
  .sort((one, other) => one.numerator / one.denominator - other.numerator / other.denominator);
if (fastest) camera.setInterval(fastest);
const ours = ofOne(await library(camera));
camera.close();
const theirs = ofOne(peer(path));
for (const name of ['time', 'cpu', 'user'] as const) console.log(name, ours[name], theirs[name]);
