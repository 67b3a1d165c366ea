// SPDX-License-Identifier: MIT
/** dmabufs(): the dma-bufs of the whole machine. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { basename } from 'node:path';
import { type DmaBufInfo, dmabufs, heaps, openHeap } from 'dmabuf';
import { vgemCard, withDriver } from './drivers.ts';
import { debugfs, describeModules, leavesNoPage, PAGE } from './support.ts';
import { O_RDWR, Syscalls } from './syscalls.ts';

const command = basename(process.argv0);

const find = (inode: number): DmaBufInfo | undefined => dmabufs().find((info) => info.inode === inode);

describeModules('dmabufs()', () => {
  withDriver('vgem', [], 'vgem-import');
  before(() => {
    debugfs('');
  });

  for (const { kind, name, path } of heaps().filter((info) => info.dma && !info.protected && !info.error)) {
    it(`lists a buffer of ${kind} ${name} with who holds it`, async function () {
      await leavesNoPage(async () => {
        await using process_ = await Syscalls.start(this);
        using heap = openHeap(path, { heap: name });
        using buffer = heap.allocSync(2 * PAGE + 1, { name: 'a name, with: all' });
        const { inode } = buffer;
        using other = buffer.dup();
        using mapping = buffer.map();
        assert.equal(mapping.closed, false);
        const theirs = await process_.take(buffer.fd);
        await process_.map(theirs, PAGE);
        await process_.map(theirs, 2 * PAGE);
        const info = find(inode);
        const mine = { pid: process.pid, command, fds: [buffer.fd, other.fd].sort((a, b) => a - b), mappings: 1 };
        const its = { pid: process_.pid, command: 'syscalls', fds: [theirs], mappings: 2 };
        assert.deepEqual(
          { ...info, holders: info?.holders.map((holder) => ({ ...holder, fds: holder.fds.sort((a, b) => a - b) })) },
          {
            inode,
            size: 3 * PAGE,
            exporter: buffer.exporterName,
            name: 'a name, with: all',
            devices: [],
            holders: [mine, its].sort((a, b) => a.pid - b.pid),
          },
        );
        // It goes on by the other process's mappings alone.
        await process_.must('close', theirs);
        mapping.close();
        other.close();
        buffer.close();
        assert.deepEqual(find(inode)?.holders, [{ ...its, fds: [] }]);
        await process_.end();
        assert.equal(find(inode), undefined);
      });
    });
  }

  it('lists what only a driver holds', async function () {
    await leavesNoPage(async () => {
      await using process = await Syscalls.start(this);
      using heap = openHeap('ion');
      const buffer = heap.allocSync(PAGE, { name: 'imported' });
      const { inode, exporterName: exporter } = buffer;
      const card = await process.must('open', vgemCard(), O_RDWR);
      const fd = await process.take(buffer.fd);
      buffer.close();
      const request = Buffer.from(Uint32Array.of(0, 0, fd).buffer);
      // DRM_IOCTL_PRIME_FD_TO_HANDLE
      await process.must('ioctl', card, 0xc00c642e, request);
      await process.must('close', fd);
      const { devices, ...info } = find(inode) as DmaBufInfo;
      assert.deepEqual(info, { inode, size: PAGE, exporter, name: 'imported', holders: [] });
      assert.deepEqual(devices, ['vgem']);
      await process.must('close', card);
      assert.equal(find(inode), undefined);
    });
  });

  it('shows others than root only what they may see', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('ion');
      using buffer = heap.allocSync(PAGE, { name: "root's" });
      assert.equal(find(buffer.inode)?.holders.length, 1);
      const script = "import('dmabuf').then(({ dmabufs }) => console.log(JSON.stringify(dmabufs())))";
      const said = execFileSync('node', ['-e', script], { uid: 65534, gid: 65534, encoding: 'utf8' });
      assert.deepEqual(JSON.parse(said), []);
    });
  });
});
