// SPDX-License-Identifier: MIT
/** Fences of drivers on our buffers: vgem's on every kernel, sw_sync's where the kernel has it (lab). */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DmaBuf, openHeap, SyncFile } from 'dmabuf';
import {
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
  DMA_BUF_SYNC_READ,
  DMA_BUF_SYNC_WRITE,
  SW_SYNC_IOC_CREATE_FENCE,
  SW_SYNC_IOC_INC,
  swSyncFence,
  swSyncFenceFd,
  syncFile,
} from './abi.ts';
import { vgemCard, withDriver } from './drivers.ts';
import { debugfs, describeModules, leavesNoPage, PAGE } from './support.ts';
import { O_RDWR, Syscalls } from './syscalls.ts';

const [major = 0] = release().split('.').map(Number);
/** DMA_BUF_IOCTL_EXPORT_SYNC_FILE and …_IMPORT_… came with 6.0. */
const hasSyncFiles = major >= 6;

/** Of drm/drm.h and drm/vgem_drm.h. */
const DRM_IOCTL_GEM_CLOSE = 0x40086409;
const DRM_IOCTL_PRIME_FD_TO_HANDLE = 0xc00c642e;
const DRM_IOCTL_VGEM_FENCE_ATTACH = 0xc0106441;
const DRM_IOCTL_VGEM_FENCE_SIGNAL = 0x40086442;
const VGEM_FENCE_WRITE = 1;

const words = (...values: number[]) => Buffer.from(Uint32Array.from(values, (value) => value >>> 0).buffer);

/** Another process, where vgem has the buffer, and is at work on it when told. */
class Device {
  readonly #process: Syscalls;
  readonly #card: number;
  readonly #handle: number;

  private constructor(process: Syscalls, card: number, handle: number) {
    this.#process = process;
    this.#card = card;
    this.#handle = handle;
  }

  static async import(process: Syscalls, buffer: DmaBuf): Promise<Device> {
    const card = await process.must('open', vgemCard(), O_RDWR);
    const fd = await process.take(buffer.fd);
    const { code, bytes } = await process.call('ioctl', card, DRM_IOCTL_PRIME_FD_TO_HANDLE, words(0, 0, fd));
    assert.equal(code, '');
    await process.must('close', fd);
    return new Device(process, card, bytes.readUInt32LE(0));
  }

  /** Begins to write, or to read: what ends it. */
  async begin(flags: number): Promise<() => Promise<unknown>> {
    const attach = words(this.#handle, flags, 0, 0);
    const { code, bytes } = await this.#process.call('ioctl', this.#card, DRM_IOCTL_VGEM_FENCE_ATTACH, attach);
    assert.equal(code, '');
    const fence = bytes.readUInt32LE(8);
    return () => this.#process.must('ioctl', this.#card, DRM_IOCTL_VGEM_FENCE_SIGNAL, words(fence, 0));
  }

  async close(): Promise<void> {
    await this.#process.must('ioctl', this.#card, DRM_IOCTL_GEM_CLOSE, words(this.#handle, 0));
    await this.#process.must('close', this.#card);
  }
}

const busy = { name: 'DmaBufError', code: 'ERR_DMABUF_BUSY', errno: -16, syscall: 'poll' };

/** Whether a promise is settled within a few turns of the loop. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([
    promise.then(
      () => true,
      () => true,
    ),
    sleep(50, false),
  ]);
}

describeModules('fences', () => {
  withDriver('vgem', [], 'vgem-import');

  async function withDevice(
    context: Mocha.Context,
    body: (buffer: DmaBuf, device: Device, process: Syscalls) => Promise<void>,
  ): Promise<void> {
    await leavesNoPage(async () => {
      await using process = await Syscalls.start(context);
      using heap = openHeap('ion');
      using buffer = heap.allocSync(2 * PAGE, { name: 'frame' });
      const device = await Device.import(process, buffer);
      await body(buffer, device, process);
      await device.close();
    });
  }

  it('make who would block wait, and nobody block', async function () {
    await withDevice(this, async (buffer, device) => {
      const done = await device.begin(VGEM_FENCE_WRITE);
      const message = /A device is at work on DmaBuf 'frame' .*: await ready\('(read|write|readwrite)'\) first/;
      for (const use of [
        () => buffer.read(() => 0),
        () => buffer.write(() => 0),
        () => buffer.readwrite(async () => 0),
        () => buffer.accessSync('read'),
        () => buffer.copy(),
      ]) {
        assert.throws(use, { ...busy, message });
      }
      const waiting = (['read', 'write', 'readwrite'] as const).map((direction) => buffer.ready(direction));
      const access = buffer.access('write');
      assert.equal(await settled(Promise.any([...waiting, access])), false);
      await done();
      await Promise.all(waiting);
      using opened = await access;
      opened.bytes.fill(1);
      assert.equal(
        buffer.read((bytes) => bytes[PAGE]),
        1,
      );
    });
  });

  it('of a device that reads make only writers wait', async function () {
    await withDevice(this, async (buffer, device) => {
      const done = await device.begin(0);
      await buffer.ready('read');
      assert.equal(
        buffer.read((bytes) => bytes[0]),
        0,
      );
      assert.throws(() => buffer.write(() => 0), busy);
      const waiting = buffer.ready('write');
      assert.equal(await settled(waiting), false);
      await done();
      await waiting;
      buffer.write((bytes) => bytes.fill(2));
    });
  });

  it('are waited for no longer by whom a signal stops, or whose buffer is closed', async function () {
    await withDevice(this, async (buffer, device) => {
      const done = await device.begin(VGEM_FENCE_WRITE);
      const controller = new AbortController();
      const stopped = buffer.ready('read', { signal: controller.signal });
      using other = buffer.dup();
      const closed = other.ready('write');
      const given = buffer.dup();
      const taken = given.access('read');
      assert.equal(await settled(Promise.any([stopped, closed, taken])), false);
      const reason = new Error('mine');
      controller.abort(reason);
      await assert.rejects(stopped, reason);
      other.close();
      await assert.rejects(closed, { code: 'ERR_DMABUF_CLOSED', syscall: 'poll' });
      const fd = given.takeFd();
      await assert.rejects(taken, { code: 'ERR_DMABUF_CLOSED' });
      (await import('node:fs')).closeSync(fd);
      await done();
      await buffer.ready('read');
    });
  });

  if (!hasSyncFiles) {
    it('have no descriptors before Linux 6.0, which errors say', async function () {
      await withDevice(this, async (buffer) => {
        assert.throws(() => buffer.exportSyncFile('read'), {
          name: 'DmaBufError',
          code: 'ERR_DMABUF_UNSUPPORTED',
          errno: -25,
          syscall: 'ioctl',
          message: /want Linux 6\.0 or later, and this is 5\.10\..*ready\(\)/,
        });
      });
    });
    return;
  }

  it('are exported as sync files, which other buffers can wait for', async function () {
    await withDevice(this, async (buffer, device) => {
      using heap = openHeap('ion');
      using other = heap.allocSync(PAGE);
      const done = await device.begin(VGEM_FENCE_WRITE);
      using file = buffer.exportSyncFile('read');
      assert.equal(file.signalled, false);
      other.importSyncFile(file, 'write');
      assert.throws(() => other.read(() => 0), busy);
      const waiting = Promise.all([file.wait(), other.ready('write'), buffer.ready('read')]);
      assert.equal(await settled(waiting), false);
      await done();
      await waiting;
      assert.equal(file.signalled, true);
      await file.wait();
      other.read(() => 0);
      using empty = buffer.exportSyncFile('readwrite');
      assert.equal(empty.signalled, true);
    });
  });

  it('come from elsewhere and go there as descriptors', async function () {
    await withDevice(this, async (buffer, device) => {
      const done = await device.begin(VGEM_FENCE_WRITE);
      const first = buffer.exportSyncFile('read');
      const waiting = first.wait();
      const fd = first.takeFd();
      await assert.rejects(waiting, { code: 'ERR_DMABUF_CLOSED' });
      assert.throws(() => first.signalled, { code: 'ERR_DMABUF_CLOSED' });
      using second = SyncFile.fromFd(fd);
      const controller = new AbortController();
      const stopped = second.wait({ signal: controller.signal });
      controller.abort();
      await assert.rejects(stopped, { name: 'AbortError' });
      await done();
      await second.wait();
    });
  });

  const swSync = debugfs('sync/sw_sync');
  if (!existsSync(swSync)) {
    it('of sw_sync want a kernel with CONFIG_SW_SYNC, such as lab');
    return;
  }

  it('of sw_sync are waited for, and their errors thrown', async function () {
    await withDevice(this, async (buffer, _, process) => {
      const timeline = await process.must('open', swSync, O_RDWR);
      const fence = async (value: number, flags: number) => {
        const { code, bytes } = await process.call('ioctl', timeline, SW_SYNC_IOC_CREATE_FENCE, swSyncFence(value));
        assert.equal(code, '');
        const fd = await process.take(buffer.fd);
        await process.must('ioctl', fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, syncFile(flags, swSyncFenceFd(bytes)));
        await process.must('close', swSyncFenceFd(bytes));
        await process.must('close', fd);
      };
      await fence(1, DMA_BUF_SYNC_READ);
      await fence(2, DMA_BUF_SYNC_WRITE);
      using file = buffer.exportSyncFile('write');
      const waiting = [buffer.ready('read'), buffer.ready('write')];
      await process.must('ioctl', timeline, SW_SYNC_IOC_INC, words(1));
      assert.equal(await settled(Promise.any(waiting)), false);
      await process.must('ioctl', timeline, SW_SYNC_IOC_INC, words(1));
      await Promise.all([...waiting, file.wait()]);

      await fence(3, DMA_BUF_SYNC_WRITE);
      using failing = buffer.exportSyncFile('read');
      const failed = failing.wait();
      // A timeline that ends signals what is left with ENOENT.
      await process.must('close', timeline);
      await assert.rejects(failed, { code: 'ENOENT', errno: -2, syscall: 'poll', message: /The device has failed/ });
      assert.equal(failing.signalled, true);
      await buffer.ready('readwrite');
    });
  });
});
