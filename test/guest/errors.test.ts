// SPDX-License-Identifier: MIT
/** Bad input, and what a caller is told; the lengths no buffer has stand in ../heap-contract.ts. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { CmaMem, DmaBuf, Exporter, FdSocket, type HeapFigures, heapStats, heaps, openHeap } from 'dmabuf';
import {
  childScript,
  type Device,
  describeModules,
  leavesNoPage,
  moduleOf,
  noPiece,
  PAGE,
  systemErrorOf,
  without,
} from './support.ts';

const openers: Readonly<Record<Device, () => Disposable>> = {
  exporter: () => Exporter.open(),
  ion: () => openHeap('ion'),
  cma_mem: () => openHeap('cma-mem'),
};

describeModules('bad input', () => {
  it('a path where nothing is', async () => {
    await leavesNoPage(() => {
      const nothing = systemErrorOf('ENOENT', 2, 'open', '/dev/nothing', /heaps\(\) lists what this machine has/);
      assert.throws(() => openHeap('/dev/nothing'), nothing);
      assert.throws(() => CmaMem.open('/dev/nothing'), nothing);
      assert.throws(() => Exporter.open({ path: '/dev/nothing' }), nothing);
    });
  });

  it('a device that is not ours', async () => {
    await leavesNoPage(() => {
      for (const path of ['/dev/null', '/etc/passwd', '/dev/exporter', '/']) {
        const foreign = systemErrorOf('ENOTTY', 25, 'ioctl', path, /none of the devices.*heaps\(\) lists/);
        assert.throws(() => openHeap(path), foreign);
      }
    });
  });

  it('another device under a name of ours', async () => {
    await leavesNoPage(() => {
      for (const path of ['/dev/null', '/dev/ion', '/dev/exporter', '/dev/cma_mem']) {
        const foreign = systemErrorOf('ENOTTY', 25, 'ioctl', path, /not the device its name says.*heaps\(\)/);
        if (path !== '/dev/cma_mem') assert.throws(() => CmaMem.open(path), foreign);
        if (path !== '/dev/exporter') assert.throws(() => Exporter.open({ path }), foreign);
      }
      assert.throws(
        () => CmaMem.open('/etc/passwd'),
        systemErrorOf('ENOTTY', 25, 'ioctl', '/etc/passwd', /not a device/),
      );
    });
  });

  it('a name that is neither a kind of heap nor a path', async () => {
    await leavesNoPage(() => {
      const message = /one of ion, dma-heap, cma-mem, udmabuf, memfd, or a path.*'gralloc'/;
      assert.throws(() => openHeap('gralloc'), { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message });
      assert.throws(() => openHeap(''), { code: 'ERR_INVALID_ARG_VALUE' });
      assert.throws(() => openHeap('/dev/i\0n'), { code: 'ERR_INVALID_ARG_VALUE' });
    });
  });

  for (const device of Object.keys(openers) as Device[]) {
    it(`a module that is not loaded: ${moduleOf[device]}`, async () => {
      const path = `/dev/${device}`;
      await leavesNoPage(async () => {
        await without(device, () => {
          const sentence = new RegExp(`not loaded: run \`modprobe ${moduleOf[device]}\` as root.*scripts/guest`);
          assert.throws(openers[device], systemErrorOf('ENOENT', 2, 'open', path, sentence));
          assert(!heaps().some((heap) => heap.path === path));
        });
        openers[device]()[Symbol.dispose]();
      });
    });
  }

  it('a dma-heap that is not there', async () => {
    const names = heaps().flatMap(({ kind, name }) => (kind === 'dma-heap' ? [name] : []));
    await leavesNoPage(() => {
      const none = systemErrorOf('ENOENT', 2, 'open', '/dev/dma_heap', /CONFIG_DMABUF_HEAPS/);
      if (names.length === 0) assert.throws(() => openHeap('dma-heap'), none);
      const sentence = new RegExp(`The dma-heaps there are: ${names.sort().join(', ') || 'none'}\\.`);
      const missing = systemErrorOf('ENOENT', 2, 'open', '/dev/dma_heap/nonsense', sentence);
      assert.throws(() => openHeap('dma-heap', { heap: 'nonsense' }), missing);
    });
  });

  it('a heap the device does not have', async () => {
    await leavesNoPage(() => {
      assert.throws(
        () => openHeap('cma-mem', { heap: 'system' }),
        systemErrorOf('ENODEV', 19, 'open', '/dev/cma_mem', /no heap "system".*only heap is cma_mem/),
      );
      assert.throws(() => openHeap('ion', { heap: 32 }), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
      assert.throws(() => openHeap('ion', { heap: {} as never }), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
    });
  });

  it('a user without permission', async () => {
    const child = spawn(process.execPath, [childScript('nobody.mjs')], {
      uid: 65534,
      gid: 65534,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.on('data', (bytes) => {
      said += bytes;
    });
    assert.deepEqual(await once(child, 'close'), [0, null]);
    const { errors, listed, figures } = JSON.parse(said) as {
      errors: (NodeJS.ErrnoException & { message: string })[];
      listed: [path: string, code: string][];
      figures: HeapFigures[];
    };
    assert.deepEqual(
      errors.map(({ code, errno, syscall, path }) => ({ code, errno, syscall, path })),
      ['/dev/exporter', '/dev/ion', '/dev/cma_mem', '/dev/cma_mem'].map((path) => ({
        code: 'EACCES',
        errno: -13,
        syscall: 'open',
        path,
      })),
    );
    for (const { message } of errors) {
      assert.match(message, /belongs to user 0, group root, mode 0600: run as root, or .* by a udev rule/);
    }
    const directory = '/dev/dma_heap';
    const own = existsSync(directory) ? readdirSync(directory).map((name) => join(directory, name)) : [];
    const devices = ['/dev/ion', '/dev/cma_mem', '/dev/udmabuf'].filter((path) => existsSync(path));
    assert.deepEqual(
      listed.sort(),
      [...devices, ...own].sort().map((path) => [path, 'EACCES']),
    );
    // Those are for everybody.
    assert.deepEqual(figures, heapStats());
    assert(figures.some(({ path, name }) => path === '/dev/ion' && name === 'ion_system_heap'));
  });

  it('more memory than there is', async () => {
    await leavesNoPage(async () => {
      using scattered = openHeap('ion', { heap: 'ion_system_heap' });
      using contiguous = openHeap('ion', { heap: 'ion_dma_heap' });
      using cma = openHeap('cma-mem');
      using device = CmaMem.open();
      const most = totalmem();
      const tooMuch = /KiB of memory are available now.*Close buffers/;
      assert.throws(() => scattered.allocSync(most), systemErrorOf('ENOMEM', 12, 'ioctl', '/dev/ion', tooMuch));
      assert.throws(() => contiguous.allocSync(most), systemErrorOf('ENOMEM', 12, 'ioctl', '/dev/ion', noPiece()));
      await assert.rejects(cma.alloc(most), systemErrorOf('ENOMEM', 12, 'ioctl', '/dev/cma_mem', noPiece()));
      await assert.rejects(device.allocate(most), systemErrorOf('ENOMEM', 12, 'ioctl', '/dev/cma_mem', noPiece()));
      for (const length of [most + 1, 2 ** 32 + PAGE, 2 ** 53]) {
        assert.throws(() => device.allocateSync(length), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
      }
    });
  });

  it('a descriptor that is no dma-buf', async () => {
    await leavesNoPage(() => {
      for (const path of ['/dev/null', '/dev/ion', '/dev/cma_mem', '/etc/passwd', '/']) {
        const fd = openSync(path, 'r');
        const message = new RegExp(`^Descriptor ${fd} \\(${path}\\) is no dma-buf`);
        const expected = { name: 'DmaBufError', code: 'ERR_DMABUF_NOT_A_DMABUF', errno: -22, path, message };
        assert.throws(() => DmaBuf.fromFd(fd), expected);
        // still the caller's
        closeSync(fd);
      }
      const [left, right] = FdSocket.pair();
      const socket = left.takeFd();
      assert.throws(() => DmaBuf.fromFd(socket), { code: 'ERR_DMABUF_NOT_A_DMABUF', message: /socket:/ });
      closeSync(socket);
      right.close();
    });
  });

  it('a descriptor that is not open, or no number of one', async () => {
    await leavesNoPage(() => {
      const fd = 1_000_000;
      const sentence = /not open in this process/;
      assert.throws(() => DmaBuf.fromFd(fd), systemErrorOf('EBADF', 9, 'fstat', `/proc/self/fd/${fd}`, sentence));
      for (const wrong of [-1, 0.5, Number.NaN, 2 ** 31]) {
        assert.throws(() => DmaBuf.fromFd(wrong), { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' });
      }
      assert.throws(() => DmaBuf.fromFd('3' as never), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
    });
  });

  it('a descriptor another object owns', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('ion');
      using buffer = heap.allocSync(PAGE);
      const message = /belongs to an open object of this library already: use its dup\(\)/;
      assert.throws(() => DmaBuf.fromFd(buffer.fd), { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message });
    });
  });

  it('a descriptor closed behind the back of its owner', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('ion');
      const buffer = heap.allocSync(PAGE);
      const { fd } = buffer;
      closeSync(fd);
      const lost = { code: 'ERR_DMABUF_CLOSED', errno: -9, message: /closed by something else/ };
      assert.throws(() => buffer.map(), lost);
      // The number belongs to somebody else now, who keeps it.
      const other = openSync('/dev/null', 'r');
      assert.equal(other, fd);
      assert.throws(() => buffer.copy(), lost);
      buffer.close();
      closeSync(other);
    });
  });

  it('a device whose descriptor was closed behind its back', async () => {
    await leavesNoPage(async () => {
      const link = (fd: string) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`);
        } catch {
          // that of the folder itself
          return '';
        }
      };
      const lost = { name: 'DmaBufError', code: 'ERR_DMABUF_CLOSED', errno: -9, message: /closed by something else/ };
      for (const reused of [false, true]) {
        /** What is opened, and its number closed. */
        const without = <T>(path: string, open: () => T): T => {
          const opened = open();
          const fd = readdirSync('/proc/self/fd').find((each) => link(each) === path);
          closeSync(Number(fd));
          return opened;
        };
        const exporter = without('/dev/exporter', () => Exporter.open());
        const cma = without('/dev/cma_mem', () => CmaMem.open());
        const ion = without('/dev/ion', () => openHeap('ion'));
        using whole = CmaMem.open();
        const files = reused ? Array.from({ length: 3 }, () => openSync('/dev/null', 'r')) : [];
        for (const call of [
          () => exporter.buffer(),
          () => exporter.size,
          () => cma.allocateSync(PAGE),
          () => cma.region(1),
          () => cma.totals(),
          () => cma.connect(whole),
          () => whole.connect(cma),
          () => ion.allocSync(PAGE),
        ]) {
          assert.throws(call, lost, `${call}`);
        }
        await assert.rejects(cma.allocate(PAGE), lost);
        await assert.rejects(ion.alloc(PAGE), lost);
        for (const each of [exporter, cma, ion]) each.close();
        // They are still whose they are.
        for (const file of files) closeSync(file);
      }
    });
  });

  it('a device used after it was closed', async () => {
    await leavesNoPage(async () => {
      const exporter = Exporter.open();
      const cma = CmaMem.open();
      const region = cma.allocateSync(PAGE);
      const heap = openHeap('cma-mem');
      for (const each of [exporter, cma, heap]) {
        each.close();
        each.close();
      }
      const closed = { name: 'DmaBufError', code: 'ERR_DMABUF_CLOSED', message: /is closed/ };
      assert.throws(() => exporter.getFd(), closed);
      assert.throws(() => exporter.copy(), closed);
      assert.throws(() => region.map(), closed);
      await assert.rejects(cma.allocate(PAGE), closed);
      await assert.rejects(heap.alloc(PAGE), closed);
    });
  });
});
