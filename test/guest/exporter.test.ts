// SPDX-License-Identifier: MIT
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type DmaBuf, Exporter } from 'dmabuf';
import { EXPORTER_GET_FD, EXPORTER_IOC_GET_FD } from './abi.ts';
import {
  counters,
  describeModules,
  fdinfo,
  leavesNoPage,
  load,
  PAGE,
  refuses,
  staysLoaded,
  systemErrorOf,
  unload,
} from './support.ts';
import { MAP_PRIVATE, MAP_SHARED, O_RDONLY, O_RDWR, O_WRONLY, PROT_READ, PROT_WRITE, Syscalls } from './syscalls.ts';

const greeting = 'hello world\0';

function text(memory: ArrayBuffer): string {
  return Buffer.from(memory).toString('latin1', 0, greeting.length);
}

/** The descriptor EXPORTER_GET_FD wrote through its pointer. */
async function getFd(process: Syscalls, device: number, request = EXPORTER_GET_FD): Promise<number> {
  const { code, bytes } = await process.call('ioctl', device, request, Buffer.alloc(4));
  assert.equal(code, '');
  return bytes.readInt32LE();
}

describeModules('the exporter', () => {
  it('says hello world by a dma-buf', async () => {
    await leavesNoPage(() => {
      using exporter = Exporter.open();
      using buffer = exporter.buffer();
      using mapping = buffer.map();
      assert.equal(text(mapping.buffer), greeting);
      assert.equal(text(buffer.copy()), greeting);
      assert.equal(buffer.size, PAGE);
      assert.equal(buffer.exporterName, 'exporter');
    });
  });

  it('says hello world by a mapping of the device', async () => {
    await leavesNoPage(() => {
      using exporter = Exporter.open();
      using mapping = exporter.map();
      assert.equal(text(mapping.buffer), greeting);
      assert.equal(text(exporter.copy()), greeting);
      assert.equal(exporter.size, PAGE);
    });
  });

  it('shows one memory by both', async () => {
    await leavesNoPage(() => {
      using exporter = Exporter.open();
      using buffer = exporter.buffer();
      using device = exporter.map();
      buffer.write((bytes) => (bytes[PAGE - 1] = 77));
      assert.equal(new Uint8Array(device.buffer)[PAGE - 1], 77);
      new Uint8Array(device.buffer)[PAGE - 1] = 0;
      assert.equal(
        buffer.read((bytes) => bytes[PAGE - 1]),
        0,
      );
    });
  });

  it('gives every descriptor a reference of its own', async () => {
    await leavesNoPage(() => {
      using exporter = Exporter.open();
      const buffers = Array.from({ length: 50 }, () => exporter.buffer());
      assert.deepEqual(counters('exporter'), { buffers: 1, bytes: PAGE });
      assert.equal(new Set(buffers.map(({ inode }) => inode)).size, 1);
      assert.equal(new Set(buffers.map(({ fd }) => fd)).size, 50);
      const last = buffers.pop() as DmaBuf;
      for (const buffer of buffers) buffer.close();
      assert.equal(text(last.copy()), greeting);
      last.close();
    });
  });

  it('lets a buffer outlive the device it came from', async () => {
    await leavesNoPage(() => {
      const exporter = Exporter.open();
      using buffer = exporter.buffer();
      exporter.close();
      assert.equal(text(buffer.copy()), greeting);
      assert.throws(() => exporter.buffer(), { code: 'ERR_DMABUF_CLOSED' });
    });
  });

  it('gives a reader a descriptor that reads', async () => {
    await leavesNoPage(() => {
      using exporter = Exporter.open({ readonly: true });
      using buffer = exporter.buffer();
      assert.equal(text(buffer.copy()), greeting);
      assert.equal(text(exporter.copy()), greeting);
      const path = '/dmabuf:';
      assert.throws(() => buffer.map(), systemErrorOf('EACCES', 13, 'mmap', path, /not O_RDWR.*copy\(\) reads/));
      assert.throws(() => buffer.write(() => 0), { code: 'EACCES' });
      assert.throws(
        () => exporter.map(),
        systemErrorOf('EACCES', 13, 'mmap', '/dev/exporter', /opened read-only.*copy\(\) reads/),
      );
      assert.equal(Number(fdinfo(buffer.fd, 'flags')) % 10, O_RDONLY);
    });
  });

  it('refuses a reader every way to write', async function () {
    await using process = await Syscalls.start(this);
    const reader = await process.must('open', '/dev/exporter', O_RDONLY);
    const fd = await getFd(process, reader);
    for (const each of [reader, fd]) {
      await process.fails('EACCES', 'mmap', PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, each, 0);
      const address = await process.map(each, PAGE, PROT_READ);
      await process.fails('EACCES', 'mprotect', address, PAGE, PROT_READ | PROT_WRITE);
      await process.fails('EFAULT', 'poke', address, Buffer.from('x'));
      assert.equal((await process.peek(address, 5)).toString(), 'hello');
    }
    const writer = await process.must('open', '/dev/exporter', O_RDWR);
    const writable = await process.map(await getFd(process, writer), PAGE);
    await process.must('poke', writable + 100, Buffer.from('written'));
    const seen = await process.map(fd, PAGE, PROT_READ);
    assert.equal((await process.peek(seen + 100, 7)).toString(), 'written');
    await process.must('poke', writable + 100, Buffer.alloc(7));
  });

  it('answers under its proper number, too', async function () {
    await using process = await Syscalls.start(this);
    const device = await process.must('open', '/dev/exporter', O_RDWR);
    const address = await process.map(await getFd(process, device, EXPORTER_IOC_GET_FD), PAGE);
    assert.equal((await process.peek(address, greeting.length)).toString(), greeting);
  });

  it('refuses other commands and bad pointers, and leaves no descriptor', async function () {
    await using process = await Syscalls.start(this);
    const device = await process.must('open', '/dev/exporter', O_RDWR);
    const { fds } = process;
    await process.fails('EFAULT', 'ioctlp', device, EXPORTER_GET_FD, 0);
    await process.fails('EFAULT', 'ioctlp', device, EXPORTER_IOC_GET_FD, 0x10);
    await process.fails('ENOTTY', 'ioctl', device, 1, Buffer.alloc(4));
    await process.fails('ENOTTY', 'ioctl', device, 0x80044502, Buffer.alloc(4));
    assert.equal(process.fds, fds);
  });

  it('maps no more than it has, and nothing private', async function () {
    await using process = await Syscalls.start(this);
    const device = await process.must('open', '/dev/exporter', O_RDWR);
    for (const fd of [device, await getFd(process, device)]) {
      await process.fails('EINVAL', 'mmap', 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
      await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
      await process.fails('EINVAL', 'mmap', PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    }
  });

  it('is not unloaded while anybody holds a device, a descriptor or a mapping', async function () {
    await using process = await Syscalls.start(this);
    const device = await process.must('open', '/dev/exporter', O_RDWR);
    staysLoaded('exporter');
    const fd = await getFd(process, device);
    await process.must('close', device);
    staysLoaded('exporter');
    const address = await process.map(fd, PAGE);
    await process.must('close', fd);
    staysLoaded('exporter');
    await process.must('munmap', address, PAGE);
    unload('exporter');
    load('exporter');
    using again = Exporter.open();
    assert.equal(text(again.copy()), greeting);
  });

  it('is not unloaded while its device is mapped', async function () {
    await using process = await Syscalls.start(this);
    const device = await process.must('open', '/dev/exporter', O_RDONLY);
    const address = await process.map(device, PAGE, PROT_READ);
    await process.must('close', device);
    staysLoaded('exporter');
    await process.must('munmap', address, PAGE);
    unload('exporter');
    load('exporter');
  });

  describe('with parameters', () => {
    afterEach(() => {
      unload('exporter');
      load('exporter');
    });

    it('has another text and another size', async () => {
      unload('exporter');
      load('exporter', `size=${2 * PAGE + 1}`, 'message=bonjour');
      using exporter = Exporter.open();
      assert.equal(exporter.size, 3 * PAGE);
      assert.equal(Buffer.from(exporter.copy()).toString('latin1', 0, 9), 'bonjour\0\0');
      assert.deepEqual(counters('exporter'), { buffers: 1, bytes: 3 * PAGE });
      assert.equal(readFileSync('/sys/module/exporter/parameters/message', 'utf8').trim(), 'bonjour');
    });

    it('is not loaded with a size there is no buffer of, and the log says so', () => {
      unload('exporter');
      const whole = /exporter: size=\d+: a buffer has at least one byte, and a size that can be made whole pages$/;
      refuses('exporter', 'size=0', whole);
      refuses('exporter', `size=${2n ** 64n - 1n}`, whole);
      refuses('exporter', `size=${2n ** 40n}`, /exporter: size=1099511627776: there is not that much memory$/);
      load('exporter', 'size=1', 'message=');
      using exporter = Exporter.open();
      assert(new Uint8Array(exporter.copy()).every((byte) => byte === 0));
    });

    it('is not loaded with a text that does not fit', () => {
      unload('exporter');
      assert.throws(() => load('exporter', `message=${'x'.repeat(PAGE)}`), /modprobe/);
      load('exporter', `message=${'x'.repeat(1000)}`);
    });
  });

  it('opens for writing alone as for anything else', async function () {
    await using process = await Syscalls.start(this);
    const device = await process.must('open', '/dev/exporter', O_WRONLY);
    const fd = await getFd(process, device);
    // mmap needs to read whatever it maps.
    await process.fails('EACCES', 'mmap', PAGE, PROT_WRITE, MAP_SHARED, fd, 0);
  });
});
