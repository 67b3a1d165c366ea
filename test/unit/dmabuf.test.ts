// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { constants as bufferConstants } from 'node:buffer';
import { spawnSync } from 'node:child_process';
import { closeSync, constants as fsConstants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { DmaBuf, type Heap, liveBuffers, openHeap, rows, SyncFile } from 'dmabuf';
import { collect, collectUntil, leavesNothing, openFds, PAGE, withoutDescriptors } from '../support.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe('DmaBuf', () => {
  let heap: Heap;
  before(() => {
    heap = openHeap('memfd');
  });

  it('is made by a heap or from a descriptor only', () => {
    const Constructor = DmaBuf as unknown as new (...args: unknown[]) => DmaBuf;
    for (const args of [[], [1], [Symbol('dmabuf'), 1, {}, {}]]) {
      assert.throws(() => new Constructor(...args), { name: 'TypeError', code: 'ERR_ILLEGAL_CONSTRUCTOR' });
    }
  });

  it('has a descriptor any other code can use, closed on exec', () => {
    using buffer = heap.allocSync(PAGE);
    writeSync(buffer.fd, 'text', 0);
    assert.equal(
      buffer.read((bytes) => String.fromCharCode(...bytes.subarray(0, 4))),
      'text',
    );
    const { stdout } = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
    assert.doesNotMatch(stdout, /memfd/);
  });

  it('gives its descriptor to a child through stdio', () => {
    using buffer = heap.allocSync(PAGE);
    buffer.write((bytes) => bytes.set(Buffer.from('for the child')));
    const { stdout } = spawnSync('head', ['-c', '13', '/proc/self/fd/3'], {
      stdio: [0, 'pipe', 2, buffer.fd],
      encoding: 'utf8',
    });
    assert.equal(stdout, 'for the child');
  });

  it('gives its descriptor to a child that uses this library', () => {
    using buffer = heap.allocSync(PAGE, { name: 'handed over' });
    const code = `const { DmaBuf } = require('dmabuf'); const b = DmaBuf.fromFd(3);
      b.write((bytes) => bytes.fill(0x33)); console.log(b.name, b.size, b.inode); b.close();`;
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', code], {
      stdio: [0, 'pipe', 'pipe', buffer.fd],
      cwd: root,
      encoding: 'utf8',
    });
    assert.equal(stdout, `handed over ${PAGE} ${buffer.inode}\n`, stderr);
    assert.equal(
      buffer.read((bytes) => bytes.at(-1)),
      0x33,
    );
  });

  it('is among the live buffers of this thread until it is closed, given away or collected', async () => {
    await collect();
    const before = liveBuffers().length;
    using first = heap.allocSync(PAGE, { name: 'first' });
    const second = first.dup();
    const third = await heap.alloc(PAGE);
    assert.deepEqual(liveBuffers().slice(before), [first, second, third]);
    second.close();
    closeSync(third.takeFd());
    assert.deepEqual(liveBuffers().slice(before), [first]);
    (() => heap.allocSync(PAGE))();
    await collectUntil(() => liveBuffers().length === before + 1);
    assert.deepEqual(liveBuffers().slice(before), [first]);
  });

  it('says what it can do only where the other is a buffer', () => {
    using buffer = heap.allocSync(PAGE);
    for (const wrong of [undefined, null, 3, {}, { inode: buffer.inode, dma: false }]) {
      assert.throws(() => buffer.isSameBuffer(wrong as never), { code: 'ERR_INVALID_ARG_TYPE' });
    }
  });

  it('refuses directions there are not', async () => {
    using buffer = heap.allocSync(PAGE);
    for (const [wrong, code] of [
      ['toString', 'ERR_INVALID_ARG_VALUE'],
      ['', 'ERR_INVALID_ARG_VALUE'],
      [undefined, 'ERR_INVALID_ARG_TYPE'],
      [1, 'ERR_INVALID_ARG_TYPE'],
    ] as const) {
      await assert.rejects(buffer.ready(wrong as never), { name: 'TypeError', code });
      await assert.rejects(buffer.access(wrong as never), { name: 'TypeError', code });
      assert.throws(() => buffer.accessSync(wrong as never), { name: 'TypeError', code });
      assert.throws(() => buffer.exportSyncFile(wrong as never), { name: 'TypeError', code });
    }
  });

  it('does not wait for whom a signal tells not to', async () => {
    using buffer = heap.allocSync(PAGE);
    const reason = new Error('mine');
    await assert.rejects(buffer.ready('read', { signal: AbortSignal.abort(reason) }), reason);
    await assert.rejects(buffer.access('read', { signal: AbortSignal.abort() }), { name: 'AbortError' });
    await buffer.ready('read', { signal: new AbortController().signal });
    for (const wrong of [null, 'signal', {}]) {
      await assert.rejects(buffer.ready('read', { signal: wrong as never }), { code: 'ERR_INVALID_ARG_TYPE' });
    }
    await assert.rejects(buffer.ready('read', { sginal: 1 } as never), { code: 'ERR_INVALID_ARG_VALUE' });
  });

  it('has no fences to export where it is a memfd, and takes none', async () => {
    await leavesNothing(() => {
      using buffer = heap.allocSync(PAGE);
      assert.throws(() => buffer.exportSyncFile('read'), { code: 'ERR_DMABUF_UNSUPPORTED', message: /no fences/ });
      for (const wrong of [undefined, null, buffer, 3]) {
        assert.throws(() => buffer.importSyncFile(wrong as never, 'read'), { code: 'ERR_INVALID_ARG_TYPE' });
      }
      for (const path of ['/dev/null', '/dev/zero', '/etc/passwd']) {
        const fd = openSync(path, 'r');
        assert.throws(() => SyncFile.fromFd(fd), { code: 'ENOTTY', syscall: 'ioctl', message: /no sync file/ });
        fstatSync(fd);
        closeSync(fd);
      }
      assert.throws(() => SyncFile.fromFd(buffer.fd), { code: 'ERR_INVALID_ARG_VALUE' });
      assert.throws(() => SyncFile.fromFd(9999), { code: 'EBADF' });
    });
  });

  describe('planes', () => {
    it('lie inside the buffer', async () => {
      await leavesNothing(() => {
        for (const [plane, name] of [
          [{ stride: 0 }, 'RangeError'],
          [{ stride: PAGE + 1, length: PAGE }, 'RangeError'],
          [{ stride: 1.5 }, 'RangeError'],
          [{ stride: 8, offset: -1 }, 'RangeError'],
          [{ stride: 8, offset: 2 * PAGE }, 'RangeError'],
          [{ stride: 8, offset: PAGE, length: PAGE + 1 }, 'RangeError'],
          [{ stride: 8, length: 2 ** 53 }, 'RangeError'],
          [{}, 'TypeError'],
          [null, 'TypeError'],
          [{ stride: '8' }, 'TypeError'],
          [{ stride: 8, strid: 8 }, 'TypeError'],
        ] as const) {
          assert.throws(() => heap.allocSync(PAGE + 1, { planes: [plane as never] }), {
            name,
            message: /planes\[0\]|strid/,
          });
        }
        assert.throws(() => heap.allocSync(PAGE, { planes: 'none' as never }), { code: 'ERR_INVALID_ARG_TYPE' });
        // biome-ignore lint/suspicious/noSparseArray: a caller may pass one
        assert.throws(() => heap.allocSync(PAGE, { planes: [, { stride: 8 }] as never }), {
          code: 'ERR_INVALID_ARG_TYPE',
        });
      });
    });

    it('are told of a buffer that comes from elsewhere, or it is the caller’s still', async () => {
      await leavesNothing(() => {
        using buffer = heap.allocSync(2 * PAGE);
        const fd = buffer.dup().takeFd();
        for (const options of [
          { length: 2 * PAGE + 1 },
          { length: 0 },
          { planes: [{ stride: 0 }] },
          { plane: [] },
          null,
        ]) {
          assert.throws(() => DmaBuf.fromFd(fd, options as never), { errno: -22, syscall: 'fstat' });
        }
        using other = DmaBuf.fromFd(fd, { length: 100, planes: [{ stride: 10 }] });
        assert.deepEqual(
          [other.length, other.size, other.planes],
          [100, 2 * PAGE, [{ offset: 0, stride: 10, length: 100 }]],
        );
        assert.throws(() => Object.assign(other.planes[0] as object, { offset: 1 }), TypeError);
      });
    });

    it('are needed for a pixmap', () => {
      using buffer = heap.allocSync(PAGE);
      const message = /DmaBuf \(.*\) has no planes: name them/;
      assert.throws(() => buffer.toNativePixmap(), { code: 'ERR_DMABUF_UNSUPPORTED', message });
      using access = buffer.accessSync('read');
      assert.throws(() => access.rows(), { code: 'ERR_DMABUF_UNSUPPORTED', message });
      using other = heap.allocSync(PAGE, { planes: [{ stride: 64 }] });
      assert.equal(other.toNativePixmap({ modifier: 2n ** 56n + 1n }).modifier, '72057594037927937');
      for (const [options, code] of [
        [{ modifier: 0 }, 'ERR_INVALID_ARG_TYPE'],
        [{ modifier: -1n }, 'ERR_OUT_OF_RANGE'],
        [{ modifier: 2n ** 64n }, 'ERR_OUT_OF_RANGE'],
        [{ fourcc: 1 }, 'ERR_INVALID_ARG_VALUE'],
      ] as const) {
        assert.throws(() => other.toNativePixmap(options as never), { code });
      }
      other.close();
      assert.throws(() => other.toNativePixmap(), { code: 'ERR_DMABUF_CLOSED' });
    });

    it('have rows, the last of which need not be padded', () => {
      const bytes = Uint8Array.from({ length: 30 }, (_, index) => index);
      const of = (plane: object, width?: number) => [...rows(bytes, plane as never, width)].map((row) => [...row]);
      assert.deepEqual(of({ offset: 2, stride: 10, length: 23 }, 3), [
        [2, 3, 4],
        [12, 13, 14],
        [22, 23, 24],
      ]);
      assert.equal(of({ stride: 10 }).length, 3);
      assert.equal(of({ stride: 10, length: 29 }).length, 2);
      for (const width of [0, 11, -1, 2.5]) {
        assert.throws(() => rows(bytes, { stride: 10 }, width), { code: 'ERR_OUT_OF_RANGE' });
      }
      assert.throws(() => rows(new Uint8Array(), { stride: 10 }), { code: 'ERR_OUT_OF_RANGE' });
      assert.throws(() => rows([1, 2] as never, { stride: 1 }), { code: 'ERR_INVALID_ARG_TYPE' });
    });
  });

  describe('fromFd', () => {
    it('takes what takeFd gave', async () => {
      await leavesNothing(() => {
        const buffer = heap.allocSync(100, { name: 'moved' });
        const fd = buffer.takeFd();
        assert(buffer.closed);
        assert.throws(() => buffer.fd, { code: 'ERR_DMABUF_CLOSED' });
        buffer.close();
        using other = DmaBuf.fromFd(fd);
        assert.equal(other.fd, fd);
        assert.equal(other.length, PAGE);
        assert.equal(other.name, 'moved');
      });
    });

    it('refuses what is no descriptor', () => {
      for (const wrong of ['3', null, undefined, {}, 3n]) {
        assert.throws(() => DmaBuf.fromFd(wrong as never), { code: 'ERR_INVALID_ARG_TYPE' });
      }
      for (const wrong of [-1, 1.5, Number.NaN, 2 ** 31, 2 ** 53]) {
        assert.throws(() => DmaBuf.fromFd(wrong), { code: 'ERR_OUT_OF_RANGE' });
      }
      assert.throws(() => DmaBuf.fromFd(9999), { code: 'EBADF', errno: -9, syscall: 'fstat' });
    });

    it('leaves a descriptor that is no buffer to its owner', () => {
      for (const path of ['/dev/null', '/etc/passwd', '/']) {
        const fd = openSync(path, 'r');
        const before = openFds();
        assert.throws(() => DmaBuf.fromFd(fd), { code: 'ERR_DMABUF_NOT_A_DMABUF', errno: -22, path });
        assert.deepEqual(openFds(), before);
        fstatSync(fd);
        closeSync(fd);
      }
    });

    it('refuses a number another object owns', () => {
      using buffer = heap.allocSync(PAGE);
      assert.throws(() => DmaBuf.fromFd(buffer.fd), { code: 'ERR_INVALID_ARG_VALUE', message: /dup\(\)/ });
      assert.equal(buffer.map().length, PAGE);
    });

    it('refuses to map a read-only descriptor, naming copy(), which reads it', async () => {
      await leavesNothing(() => {
        using buffer = heap.allocSync(PAGE);
        buffer.write((bytes) => bytes.fill(5));
        using readonly = DmaBuf.fromFd(openSync(`/proc/self/fd/${buffer.fd}`, 'r'));
        for (const use of [() => readonly.map(), () => readonly.read(() => 0), () => readonly.write(() => 0)]) {
          assert.throws(use, { code: 'EACCES', errno: -13, syscall: 'mmap', message: /O_RDWR.*copy\(\)/ });
        }
        assert.deepEqual([...new Uint8Array(readonly.copy({ offset: PAGE - 6, length: 3 }))], [5, 5, 5]);
      });
    });

    it('refuses to map and to copy one that is write-only, of which no memory can be seen', async () => {
      await leavesNothing(() => {
        using buffer = heap.allocSync(PAGE);
        const { O_WRONLY } = fsConstants;
        using writeonly = DmaBuf.fromFd(openSync(`/proc/self/fd/${buffer.fd}`, O_WRONLY));
        const message = /write-only.*O_RDWR\.$/;
        for (const use of [() => writeonly.map(), () => writeonly.copy(), () => writeonly.read(() => 0)]) {
          assert.throws(use, { code: 'EACCES', errno: -13, syscall: 'mmap', message });
        }
      });
    });

    it('takes of a memfd with nothing in it no more than there is memory for', function () {
      /** Runs a script whose descriptor 9 is a memfd of so many bytes, none of which is there. */
      const withHole = (bytes: string, script: string) => {
        const number = { x64: 319, arm64: 279, arm: 385 }[process.arch as string] ?? 0;
        // MFD_ALLOW_SEALING; F_ADD_SEALS, F_SEAL_SHRINK: node has neither
        const perl = `use POSIX; $^F = 99; my $name = "hole"; my $fd = syscall(${number}, $name, 2);
          open(my $file, "+<&=$fd") or die $!; truncate($file, ${bytes}) or die $!;
          fcntl($file, 1033, 2) or die $!; POSIX::dup2($fd, 9) or die $!; exec(@ARGV) or die $!`;
        const code = `const { DmaBuf } = require('dmabuf'); const use = (fn) => {
          try { console.log(fn()); } catch (error) { console.log(error.code, error.message); } }; ${script}`;
        return spawnSync('perl', ['-e', perl, process.execPath, '-e', code], {
          cwd: root,
          encoding: 'utf8',
        });
      };
      const huge = withHole('2 ** 42', 'use(() => DmaBuf.fromFd(9).copy().byteLength)');
      if (huge.error !== undefined) this.skip();
      // Node.js 20 has no ArrayBuffer of more than 4 GiB, which this machine may have.
      const refused =
        bufferConstants.MAX_LENGTH < 2 ** 42
          ? /^ERR_OUT_OF_RANGE /
          : /^ENOMEM .*no room for a copy of 4294967296 KiB: copy a part/;
      assert.match(huge.stdout, refused, huge.stderr);
      const part = withHole('2 ** 42', 'use(() => DmaBuf.fromFd(9).copy({ offset: 2 ** 41, length: 5 }).byteLength)');
      assert.equal(part.stdout, '5\n', part.stderr);
      const uncounted = withHole('2 ** 60', 'use(() => DmaBuf.fromFd(9))');
      assert.match(uncounted.stdout, /^ERR_DMABUF_NOT_A_DMABUF .*more bytes than a number can count/, uncounted.stderr);
    });
  });

  it('copies a memfd that is sealed against writing', async function () {
    // F_ADD_SEALS, F_SEAL_WRITE: node has no fcntl(2)
    const seal = 'open(my $file, "+<&=3") or die $!; fcntl($file, 1033, 8) or die $!';
    const buffer = heap.allocSync(PAGE + 5);
    writeSync(buffer.fd, 'sealed', PAGE - 1);
    const { error, status, stderr } = spawnSync('perl', ['-e', seal], {
      stdio: ['ignore', 'ignore', 'pipe', buffer.fd],
      encoding: 'utf8',
    });
    if (error !== undefined) {
      buffer.close();
      this.skip();
    }
    assert.equal(status, 0, stderr);
    // who has seen it before does not know of the seal
    const message = /EPERM.*It is sealed against writing.*copy\(\) reads the contents/;
    assert.throws(() => buffer.map(), { code: 'EPERM', errno: -1, syscall: 'mmap', message });
    await leavesNothing(() => {
      using sealed = DmaBuf.fromFd(buffer.dup().takeFd());
      assert.throws(() => sealed.map(), { code: 'EACCES', message: /copy\(\)/ });
      for (const each of [buffer, sealed]) {
        assert.equal(Buffer.from(each.copy({ offset: PAGE - 1, length: 6 })).toString(), 'sealed');
        assert.equal(each.copy().byteLength, each.length);
      }
    });
    buffer.close();
  });

  describe('whose descriptor was closed by other code', () => {
    it('says so, and never closes the number again', async () => {
      await leavesNothing(() => {
        const buffer = heap.allocSync(PAGE);
        const { fd } = buffer;
        closeSync(fd);
        for (const use of [() => buffer.fd, () => buffer.map(), () => buffer.dup(), () => buffer.read(() => 0)]) {
          assert.throws(use, { code: 'ERR_DMABUF_CLOSED', message: /closed by something else/ });
        }
        const other = openSync('/dev/zero', 'r');
        assert.equal(other, fd, 'the number is used again');
        assert.throws(() => buffer.copy(), { code: 'ERR_DMABUF_CLOSED' });
        buffer.close();
        assert.equal(readSync(other, Buffer.alloc(4)), 4);
        closeSync(other);
      });
    });

    it('does not take another buffer for its own', () => {
      const buffer = heap.allocSync(PAGE);
      const { fd } = buffer;
      closeSync(fd);
      using other = heap.allocSync(PAGE);
      assert.equal(other.fd, fd);
      assert.throws(() => buffer.takeFd(), { code: 'ERR_DMABUF_CLOSED' });
      buffer.close();
      assert.equal(other.map().length, PAGE);
    });

    it('does not take another descriptor of the same buffer for its own', async () => {
      await leavesNothing(() => {
        const buffer = heap.allocSync(PAGE);
        using copy = buffer.dup();
        const { fd } = buffer;
        closeSync(fd);
        using other = copy.dup();
        assert.equal(other.fd, fd);
        assert.throws(() => buffer.fd, { code: 'ERR_DMABUF_CLOSED' });
        buffer.close();
        assert.equal(other.fd, fd);
      });
    });
  });

  it('says that it is no dma-buf where a driver did not take it', () => {
    using buffer = heap.allocSync(PAGE);
    const error = buffer.importError(-22, '/dev/video0');
    const { code, errno, syscall, path } = error;
    assert.deepEqual(
      { code, errno, syscall, path },
      { code: 'EINVAL', errno: -22, syscall: 'ioctl', path: '/dev/video0' },
    );
    assert.match(error.message, /^EINVAL: .*\. It is a memfd/);
    assert.equal(buffer.importError(-19, '/dev/video0', 'open').message, "ENODEV: no such device, open '/dev/video0'");
    for (const wrong of [0, 22, -4096, 1.5]) {
      assert.throws(() => buffer.importError(wrong, '/dev/video0'), { code: 'ERR_OUT_OF_RANGE' });
    }
    for (const wrong of [Symbol(), null, 3]) {
      assert.throws(() => buffer.importError(-22, wrong as never), { code: 'ERR_INVALID_ARG_TYPE' });
      assert.throws(() => buffer.importError(-22, '/dev/video0', wrong as never), { code: 'ERR_INVALID_ARG_TYPE' });
    }
    // What a driver answers is not about the descriptor here.
    assert.equal(buffer.importError(-116, '/dev/video0').code, 'ESTALE');
  });

  it('refuses callbacks that are none', () => {
    using buffer = heap.allocSync(PAGE);
    for (const wrong of [undefined, null, 'fn', {}]) {
      assert.throws(() => buffer.read(wrong as never), { code: 'ERR_INVALID_ARG_TYPE' });
    }
  });

  it('says that no descriptor is left, and what to do', async () => {
    await leavesNothing(async () => {
      await withoutDescriptors(async () => {
        assert.throws(() => heap.allocSync(PAGE), { code: 'EMFILE', errno: -24, message: /ulimit -n/ });
        await assert.rejects(heap.alloc(PAGE), { code: 'EMFILE' });
        assert.throws(() => openHeap('dma-heap'), { code: 'EMFILE', message: /ulimit -n/ });
      });
    });
  });

  it('says how much memory there is where that is not enough, and how much of it is left to others', () => {
    const message = /ENOMEM.* \d+ KiB of memory are available now\. \d+ KiB of that are left to other programs\./;
    assert.throws(() => heap.allocSync(totalmem()), { code: 'ENOMEM', message });
  });

  it('says that the size of files is limited, and by what', () => {
    const script = `
      process.on('SIGXFSZ', () => {});
      const { openHeap } = require('dmabuf');
      try { openHeap('memfd').allocSync(100 << 20); } catch (error) { console.log(error.code, error.message); }`;
    const limited = ['-c', 'ulimit -f 1024 && exec "$0" -e "$1"', process.execPath, script];
    const { stdout, stderr } = spawnSync('sh', limited, { cwd: root, encoding: 'utf8' });
    assert.match(stdout, /^EFBIG EFBIG: .*\(`ulimit -f`\)/, stderr);
  });
});
