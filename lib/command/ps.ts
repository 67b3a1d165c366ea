// SPDX-License-Identifier: MIT
import { type DmaBufHolder, type DmaBufInfo, dmabufs } from '../dmabufs.js';
import { type Column, json, print, table } from './print.js';
import { type Args, integer, MAX_PID } from './usage.js';

interface Line {
  info: DmaBufInfo;
  holder: DmaBufHolder | undefined;
}

const columns: Column<Line>[] = [
  { title: 'INODE', value: ({ info }) => info.inode },
  { title: 'KIB', value: ({ info }) => (info.size === undefined ? undefined : info.size / 1024) },
  { title: 'EXPORTER', value: ({ info }) => info.exporter, least: 8, spare: 2 },
  { title: 'NAME', value: ({ info }) => info.name, least: 8 },
  { title: 'PID', value: ({ holder }) => holder?.pid },
  { title: 'COMMAND', value: ({ holder }) => holder?.command, least: 8 },
  { title: 'FDS', value: ({ holder }) => holder?.fds.join(','), least: 3, spare: 1 },
  { title: 'MAPS', value: ({ holder }) => holder?.mappings, spare: 3 },
  { title: 'DEVICES', value: ({ info }) => info.devices?.join(','), least: 7, spare: 4 },
];

export async function run({ values }: Args<'ps'>): Promise<number> {
  const pids = values.pid?.map((pid) => integer('--pid', pid, 1, MAX_PID));
  const wanted = ({ pid }: DmaBufHolder) => pids === undefined || pids.includes(pid);
  const found = dmabufs()
    .map((info) => ({ ...info, holders: info.holders.filter(wanted) }))
    .filter(({ holders }) => pids === undefined || holders.length > 0);
  if (values.json) {
    await print(json(found));
    return 0;
  }
  const lines = found.flatMap((info): Line[] =>
    info.holders.length === 0 ? [{ info, holder: undefined }] : info.holders.map((holder) => ({ info, holder })),
  );
  await print(table(columns, lines));
  if (process.getuid?.() !== 0) process.stderr.write("Others' processes are not looked into: root sees all buffers.\n");
  return 0;
}
