// SPDX-License-Identifier: MIT
// The frames of a camera, vivid's, against v4l2-ctl, in a guest whose time follows instructions.
import { join } from 'node:path';
import { makeRow, type Results, type Row, type Subject } from './bench-results.ts';
import { bringProgram } from './debian-programs.ts';
import { Failure } from './failure.ts';
import { chooseMachine } from './machines.ts';
import { step } from './progress.ts';
import { projectRoot } from './project.ts';
import { run } from './run.ts';

/** The same as for our heaps: one set of rows is of one kernel. */
const KERNEL = 'lab';
const TIMEOUT_S = 900;
const [FRAMES, QUICK_FRAMES] = [600, 240];

const common = { group: 'A frame of a camera, in the guest', peerName: 'v4l2-ctl', where: 'guest' } as const;

/** The rows, and the lines of bench/camera.ts they are. */
const rows: { row: Subject; line: string }[] = [
  // 0.95 of its frames in a second
  { row: { ...common, name: 'camera: from one frame to the next', goal: 1.053 }, line: 'time' },
  { row: { ...common, name: 'camera: processor time of a frame' }, line: 'cpu' },
];

/**
 * Measures the rows that are wanted; undefined where that is none.
 * @param directory for files of this run
 */
export async function measureCamera(
  arch: string,
  quick: boolean,
  directory: string,
  wanted: (row: Subject) => boolean,
): Promise<{ guest: NonNullable<Results['guest']>; rows: Row[] } | undefined> {
  const chosen = rows.filter(({ row }) => wanted(row));
  if (chosen.length === 0) return undefined;
  await bringProgram('v4l2-ctl', directory, chooseMachine(arch, KERNEL).userland);
  const options = { arch, kernel: KERNEL, timeout: TIMEOUT_S, share: directory };
  // From memory, so that nothing is fetched from this machine meanwhile.
  const script = `set -e
uname -r
cp -r /share/v4l2-ctl /share/v4l2-ctl.d /tmp
modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0 no_error_inj=1
exec node bench/camera.ts /tmp/v4l2-ctl ${quick ? QUICK_FRAMES : FRAMES}`;
  const said = await step('measuring the frames of a camera in the guest', () =>
    run(
      join(projectRoot, 'scripts/guest'),
      [
        ...['--icount', '--qemu-arg', '-icount', '--qemu-arg', 'shift=0'],
        ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]),
        ...['--', 'sh', '-c', script],
      ],
      { purpose: 'measuring the frames of a camera in the guest' },
    ),
  );
  const [release = '', ...lines] = said.split('\n');
  const times = new Map(lines.map((line) => [line.split(' ')[0], line.split(' ').slice(1).map(Number)]));
  const measured = chosen.map(({ row, line }) => {
    const [ours, peer] = times.get(line) ?? [];
    if (ours === undefined || peer === undefined) throw new Failure(`bench/camera.ts said nothing of ${row.name}`);
    return makeRow(row, ours, peer);
  });
  return { guest: { arch, kernel: release }, rows: measured };
}
