// SPDX-License-Identifier: MIT
/** A server and a peer that sends broken messages. DMABUF_ROUNDS says how many, DMABUF_FUZZ_SEED which. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FdSocket, openHeap } from 'dmabuf';
import { leavesNothing, PAGE } from '../support.ts';

const script = fileURLToPath(new URL('./children/hostile.mjs', import.meta.url));
const { DMABUF_ROUNDS = '20000', DMABUF_FUZZ_SEED = String(Date.now() % 2 ** 31) } = process.env;

describe('a server of FdSockets', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const type of ['stream', 'seqpacket'] as const) {
    const messages = Number(DMABUF_ROUNDS) / 2;

    it(`outlives ${messages.toLocaleString('en')} broken messages, and keeps nothing (${type})`, async function () {
      this.timeout(60_000 + messages * 5);
      this.slow(15_000);
      const path = join(folder, type);
      const seen: Record<string, number> = {};

      async function serve(socket: FdSocket): Promise<void> {
        const note = (what: string) => {
          seen[what] = (seen[what] ?? 0) + 1;
        };
        try {
          for await (const { value, fds } of socket) {
            fds.forEach(closeSync);
            note('good');
            await socket.send(value);
          }
          note('end');
        } catch (error) {
          const { code = String(error) } = error as NodeJS.ErrnoException;
          // An answer nobody waits for.
          if (code === 'EPIPE') return note('end');
          assert.equal(code, 'ERR_DMABUF_PROTOCOL', `seed ${DMABUF_FUZZ_SEED}: ${(error as Error).stack}`);
          note(code);
        } finally {
          socket.close();
        }
      }

      await leavesNothing(async () => {
        const server = FdSocket.listen(path, { type });
        const serving: Promise<void>[] = [];
        const accepting = (async () => {
          for await (const socket of server) serving.push(serve(socket));
        })();
        const args = [script, path, type, String(messages), DMABUF_FUZZ_SEED];
        const [code] = await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit');
        assert.equal(code, 0, `seed ${DMABUF_FUZZ_SEED}`);

        // Who keeps to the format is served as ever.
        using client = await FdSocket.connect(path, { type });
        using buffer = openHeap('memfd').allocSync(PAGE);
        await client.send('still there?', [buffer]);
        assert.equal((await client.receive())?.value, 'still there?');
        client.close();
        server.close();
        await accepting;
        await Promise.all(serving);
      });
      // It was what it says: most were broken, and some were not.
      const { ERR_DMABUF_PROTOCOL: broken = 0, good = 0, end = 0 } = seen;
      assert(broken > messages / 4 && good > 0 && end > 0, `seed ${DMABUF_FUZZ_SEED}: ${JSON.stringify(seen)}`);
    });
  }
});
