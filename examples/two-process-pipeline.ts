// SPDX-License-Identifier: MIT
/**
 * A camera in one process, and another that looks at its frames: they travel as descriptors, and none is copied.
 *
 *     scripts/guest -- node examples/two-process-pipeline.ts [FRAMES]
 *
 * @module
 */
import { openHeap, parentSocket, spawnWithSocket } from 'dmabuf';
import { pipelineReport } from 'dmabuf/v4l2';
import { openCamera, runExample } from './camera/open.ts';
import { setPngFormat } from './camera/png.ts';

/** What goes with the buffer of a frame. */
interface Message {
  sequence: number;
  dataOffset: number;
  bytesUsed: number;
}

/** The other process: answers with what it saw of each frame. */
async function look(): Promise<void> {
  using socket = parentSocket();
  for await (using message of socket.buffers()) {
    const { sequence, dataOffset, bytesUsed } = message.value as Message;
    const [buffer] = message.buffers;
    const brightest = buffer?.read((bytes) =>
      bytes.subarray(dataOffset, bytesUsed).reduce((most, byte) => Math.max(most, byte), 0),
    );
    await socket.send({ sequence, inode: buffer?.inode, brightest });
  }
}

async function capture(): Promise<void> {
  const frames = Number(process.argv[2] ?? 20);
  using camera = openCamera();
  using heap = openHeap('ion', { contiguous: true });
  setPngFormat(camera, 320, 180);
  const other = spawnWithSocket(process.execPath, [...process.execArgv, import.meta.filename, 'looker'], {
    stdio: 'inherit',
  });
  const stream = camera.frames({ count: 4, heap });
  const inodes = new Set<number>();
  let brightest = 0;
  for await (using frame of stream) {
    const { sequence } = frame;
    const { dataOffset = 0, bytesUsed = 0 } = frame.planes[0] ?? {};
    await other.socket.send({ sequence, dataOffset, bytesUsed } satisfies Message, frame.buffers);
    const answer = await other.socket.receive();
    if (answer === undefined) throw new Error('the other process has ended');
    const seen = answer.value as { inode: number; brightest: number };
    inodes.add(seen.inode);
    brightest = Math.max(brightest, seen.brightest);
    if (stream.frames === frames) break;
  }
  other.socket.close();
  const { stages, copies } = pipelineReport(stream);
  const same = [...inodes].every((inode) => stages[0]?.gave.includes(inode));
  console.log(`${stream.frames} frames in ${inodes.size} buffers, ${stream.dropped} dropped, brightest ${brightest}`);
  console.log(`the other process saw the camera's own buffers: ${same}; copies: ${copies}`);
}

if (process.argv[2] === 'looker') await look();
else await runExample('two-process-pipeline', capture);
