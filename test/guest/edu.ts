// SPDX-License-Identifier: MIT
/** QEMU's device edu, which moves bytes by DMA, for the time of a suite; and buffers in the hands of its driver. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { getSystemErrorName } from 'node:util';
import type { DmaBuf } from 'dmabuf';
import { withDriver } from './drivers.ts';
import { describeModules, PAGE } from './support.ts';

export type Direction = 'both' | 'to-device' | 'from-device';

/** Bytes a device moves at a time, which takes it 100 ms (kernel-modules/selftest/edu_importer.h). */
export const WINDOW = 2048;

/** Bytes one entry of a scatterlist may have for it: what the kernel lets a PCI device take that does not say. */
export const MAX_SEGMENT = 64 << 10;

const DRIVER = 'edu_importer';
const PCI = '/sys/bus/pci/devices';

const idOf = (address: string) =>
  ['vendor', 'device'].map((file) => readFileSync(join(PCI, address, file), 'latin1').trim()).join(':');

/** PCI addresses of the devices of this machine. */
export const edus: string[] = existsSync(PCI)
  ? readdirSync(PCI)
      .filter((address) => idOf(address) === '0x1234:0x11e8')
      .sort()
  : [];

/** Whether a device sees memory through an IOMMU, which older kernels say once it has a driver. */
export const behindIommu = (address: string) => existsSync(join(PCI, address, 'iommu_group'));

/** Whether this machine has an IOMMU, for this device or others. */
export const hasIommu = () => existsSync('/sys/class/iommu') && readdirSync('/sys/class/iommu').length > 0;

/** What is done with the driver of a device that is there. */
export const driver = (action: 'bind' | 'unbind', address: string) =>
  writeFileSync(`/sys/bus/pci/drivers/${DRIVER}/${action}`, address);

/** Path of the program that talks to the driver. */
let programPath: string;

/** Tests of two such devices, whose driver is loaded for them. */
export function describeEdus(title: string, body: (first: string, second: string) => void): void {
  describeModules(title, () => {
    const [first, second] = edus;
    if (first === undefined || second === undefined) {
      it(
        "needs two of QEMU's devices: scripts/guest with --qemu-arg -device --qemu-arg edu,dma_mask=0xffffffff, twice",
      );
      return;
    }
    programPath = withDriver(DRIVER, [], 'edu-import');
    body(first, second);
  });
}

interface Answer {
  call?: string;
  errno?: number;
  segments?: [address: number, length: number][];
  bytes?: string;
  pages?: number[];
}

/** One buffer in the hands of the driver of one device. */
export class Import {
  constructor(
    readonly process: EduProcess,
    readonly number: number,
    readonly buffer: DmaBuf,
    readonly device: string,
  ) {}

  /** Maps it for the device. @returns the number of each page by its DMA address, and bytes of each entry of the list */
  async map(direction: Direction): Promise<{ pages: number[]; segments: number[] }> {
    const { segments } = await this.process.call('map', this.number, direction);
    assert(segments);
    const pages = segments.flatMap(([address, length]) => {
      assert(address % PAGE === 0 && length % PAGE === 0 && length > 0, `${address}, ${length} bytes`);
      return Array.from({ length: length / PAGE }, (_, i) => address / PAGE + i);
    });
    return { pages, segments: segments.map(([, length]) => length) };
  }

  async unmap(): Promise<void> {
    await this.process.call('unmap', this.number);
  }

  /** The device reads here, and writes there. */
  async copy(offset: number, to: Import, toOffset: number, length: number): Promise<void> {
    // Each device has memory of its own between the two.
    assert.equal(to.device, this.device, 'a device copies what it has both ends of');
    await this.process.call('copy', this.number, offset, to.number, toOffset, length);
  }

  /** What the kernel's CPU sees. */
  async read(offset: number, length: number, how: 'synced' | 'unsynced' = 'synced'): Promise<Buffer> {
    const { bytes = '' } = await this.process.call('read', this.number, offset, length, how);
    return Buffer.from(bytes, 'hex');
  }

  /** The kernel's CPU writes. */
  async write(offset: number, bytes: Buffer, how: 'synced' | 'unsynced' = 'synced'): Promise<void> {
    await this.process.call('write', this.number, offset, bytes.toString('hex'), how);
  }

  /** Numbers of the page frames the kernel's CPU sees. */
  async pages(): Promise<number[]> {
    const { pages } = await this.process.call('pages', this.number, this.buffer.size / PAGE);
    assert(pages);
    return pages;
  }

  /** Maps its first page through the driver's file, and reads or adds 1 to the first byte; then it wants to write anyway. */
  async mmap(how: 'read' | 'write'): Promise<void> {
    await this.process.call('mmap', this.number, how);
  }

  async close(): Promise<void> {
    await this.process.call('close', this.number);
  }
}

/** A process that imports buffers, which it has descriptors of; the scope it is declared in ends it. */
export class EduProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  readonly #buffers: readonly DmaBuf[];
  readonly #ended: Promise<unknown[]>;
  #imports = 0;

  constructor(...buffers: DmaBuf[]) {
    this.#buffers = buffers;
    this.#child = spawn(programPath, { stdio: ['pipe', 'pipe', 'inherit', ...buffers.map(({ fd }) => fd)] });
    assert(this.#child.stdin && this.#child.stdout);
    this.#child.stdin.on('error', () => {});
    // with its pipes, which are descriptors of this process
    this.#ended = once(this.#child, 'close');
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** @throws Error with the code of the call that failed, and its name */
  async call(...words: (string | number)[]): Promise<Answer> {
    this.#child.stdin?.write(`${words.join(' ')}\n`);
    const { value, done } = await this.#answers.next();
    assert(!done, `the process has ended at ${words[0]}`);
    const answer: Answer = JSON.parse(value);
    if (answer.errno === undefined) return answer;
    const code = getSystemErrorName(-answer.errno);
    throw Object.assign(new Error(`${code}: ${answer.call}`), { code, syscall: answer.call });
  }

  #fdOf(buffer: DmaBuf): number {
    const index = this.#buffers.indexOf(buffer);
    assert(index >= 0);
    return 3 + index;
  }

  /** Attaches a buffer to a device. */
  async import(buffer: DmaBuf, device: string, how: 'static' | 'dynamic' = 'static'): Promise<Import> {
    const number = this.#imports++;
    await this.call('import', number, `/dev/${DRIVER}-${device}`, this.#fdOf(buffer), how);
    return new Import(this, number, buffer, device);
  }

  /** The same, and maps it. */
  async mapped(buffer: DmaBuf, device: string, direction: Direction, how?: 'static' | 'dynamic'): Promise<Import> {
    const one = await this.import(buffer, device, how);
    await one.map(direction);
    return one;
  }

  /** Ends it, whatever it is doing. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    assert.deepEqual(await this.#ended, [null, 'SIGKILL']);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end();
    const [code, signal] = await this.#ended;
    assert(code === 0 || signal === 'SIGKILL', `it ended with ${code ?? signal}`);
  }
}

/** How many pieces page frames, or addresses of pages, are in. */
export const pieces = (pages: readonly number[]) => pages.filter((page, i) => page !== (pages[i - 1] ?? -2) + 1).length;

/** Bytes that tell where they belong. */
export const pattern = (length: number, seed: number) =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7 + seed) & 0xff);

/** Checks a whole buffer, as the CPU sees it in a bracket. */
export function holds(buffer: DmaBuf, expected: Uint8Array): void {
  buffer.read((bytes) => {
    if (Buffer.compare(bytes, expected) === 0) return;
    const wrong = bytes.findIndex((byte, i) => byte !== expected[i]);
    assert.fail(`of ${bytes.length} bytes, byte ${wrong} is ${bytes[wrong]}, not ${expected[wrong]}`);
  });
}
