// SPDX-License-Identifier: MIT
import { createReadStream } from 'node:fs';
import type { DmaBuf } from '../dmabuf.js';
import { CommandError } from './command-error.js';
import { partOf } from './dump.js';
import { inheritedOne } from './inherited.js';
import { json, print } from './print.js';
import { type Args, integer, UsageError } from './usage.js';

export async function run({ values, positionals }: Args<'fill'>): Promise<number> {
  const [byte] = positionals;
  if (byte !== undefined && values.from !== undefined) throw new UsageError('BYTE or --from FILE, not both.');
  const value = integer('BYTE', byte ?? '0', 0, 255);
  using buffer = inheritedOne(values.fd);
  const { offset, length } = partOf(buffer, values);
  let written = length;
  if (values.from !== undefined) written = await copyFrom(values.from, buffer, offset, length);
  else {
    using access = await buffer.access('write');
    access.bytes.fill(value, offset, offset + length);
  }
  const { inode, size, name } = buffer;
  if (values.json) await print(json({ inode, size, name, offset, length: written }));
  return 0;
}

/** Answers how many bytes there were. */
async function copyFrom(file: string, buffer: DmaBuf, offset: number, length: number): Promise<number> {
  const source: AsyncIterable<Buffer> = file === '-' ? process.stdin : createReadStream(file);
  let done = 0;
  for await (const bytes of source) {
    const room = bytes.subarray(0, length - done);
    // Not open while it waits for more.
    using access = await buffer.access('write');
    access.bytes.set(room, offset + done);
    done += room.length;
    if (room.length < bytes.length) {
      throw new CommandError(`${file} has more than the ${length} bytes there is room for: these were written.`);
    }
  }
  return done;
}
