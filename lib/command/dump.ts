// SPDX-License-Identifier: MIT
import type { DmaBuf } from '../dmabuf.js';
import { inheritedOne } from './inherited.js';
import { json, print, terminalWidth } from './print.js';
import { type Args, size, UsageError } from './usage.js';

/** Bytes that are copied at a time: whole lines, and whole groups of base64. */
const PIECE = 3 * 2 ** 18;

/** The part of a buffer that --offset and --length say. */
export function partOf(buffer: DmaBuf, { offset: begin, length: count }: { offset?: string; length?: string }) {
  const offset = begin === undefined ? 0 : size('--offset', begin);
  if (offset >= buffer.size) throw new UsageError(`--offset ${begin}: the buffer has ${buffer.size} bytes.`);
  const length = count === undefined ? buffer.size - offset : size('--length', count);
  if (length > buffer.size - offset) {
    throw new UsageError(`--length ${count}: from ${offset} on the buffer has ${buffer.size - offset} bytes.`);
  }
  return { offset, length };
}

export async function run({ values, positionals }: Args<'dump'>): Promise<number> {
  if (values.raw && values.json) throw new UsageError('--raw or --json, not both.');
  const [held] = positionals;
  if (held !== undefined && values.fd !== undefined) throw new UsageError('PID:FD or --fd, not both.');
  if (held !== undefined && !held.includes(':')) throw new UsageError(`${held}: PID:FD is expected, or --fd N.`);
  using buffer = inheritedOne(held === undefined ? values.fd : [held]);
  const { offset, length } = partOf(buffer, values);
  const { inode, name } = buffer;
  const shown = values.raw ? raw : values.json ? base64 : hexadecimal();
  if (values.json) await print(`${json({ inode, size: buffer.size, name, offset, length }).slice(0, -2)},"data":"`);
  for (let done = 0; done < length; done += PIECE) {
    await buffer.ready('read');
    const piece = buffer.copy({ offset: offset + done, length: Math.min(PIECE, length - done) });
    await print(shown(Buffer.from(piece), offset + done));
  }
  if (values.json) await print('"}\n');
  else if (!values.raw) await print(`${address(offset + length)}\n`);
  return 0;
}

const raw = (bytes: Buffer) => bytes;
const base64 = (bytes: Buffer) => bytes.toString('base64');
const address = (offset: number) => offset.toString(16).padStart(8, '0');

/** Columns of a line of so many bytes: address, bytes, characters. */
const columns = (bytes: number) => 8 + 2 + bytes * 3 + 2 + bytes + 1;

/** Lines as hexdump -C has them, with half the bytes where the terminal is narrow. */
function hexadecimal(): (bytes: Buffer, offset: number) => string {
  const room = terminalWidth() ?? Number.POSITIVE_INFINITY;
  const perLine = [16, 8].find((bytes) => columns(bytes) <= room) ?? 4;
  let before: Buffer | undefined;
  let starred = false;
  return (bytes, offset) => {
    let lines = '';
    for (let i = 0; i < bytes.length; i += perLine) {
      const line = bytes.subarray(i, i + perLine);
      if (before?.equals(line)) {
        if (!starred) lines += '*\n';
        starred = true;
        continue;
      }
      before = line;
      starred = false;
      const digits = [...line].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
      const characters = line.toString('latin1').replace(/[^ -~]/g, '.');
      lines += `${address(offset + i)}  ${digits.padEnd(perLine * 3)} |${characters}|\n`;
    }
    return lines;
  };
}
