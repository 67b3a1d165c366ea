// SPDX-License-Identifier: MIT
import { FdSocket } from '../fd-socket.js';
import { inherited } from './inherited.js';
import { json, print } from './print.js';
import { type Args, UsageError } from './usage.js';

export async function run({ values, positionals }: Args<'send'>): Promise<number> {
  const value = parsed(values.value ?? 'null');
  const buffers = inherited(values.fd);
  try {
    using socket = await FdSocket.connect(positionals[0] as string);
    await socket.send(value, buffers);
    if (values.json)
      await print(json({ value, buffers: buffers.map(({ inode, size, name }) => ({ inode, size, name })) }));
    return 0;
  } finally {
    for (const buffer of buffers) buffer.close();
  }
}

function parsed(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch (error) {
    throw new UsageError(`--value ${value} is no JSON: ${(error as Error).message}`);
  }
}
