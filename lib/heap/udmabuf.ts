// SPDX-License-Identifier: MIT
import { readFileSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { ifAvailable, ifAvailableSync } from '../available.js';
import { wholePages } from '../mapping.js';
import { type Handle, native } from '../native.js';
import type { HeapTraits } from './choice.js';
import { admitted, DeviceHeap, heapSecret, openDevice, type Request } from './heap.js';

/** Where memfds become dma-bufs. */
export const UDMABUF_PATH = '/dev/udmabuf';

/** @internal */
export const udmabufTraits: HeapTraits = { name: 'udmabuf', contiguous: false, protected: false, uncached: false };

const LIMIT_PATH = '/sys/module/udmabuf/parameters/size_limit_mb';
/** The kernel's own default, in MiB. */
const DEFAULT_LIMIT = 64;
/** Some kernels compute the bytes of that many MiB and more wrongly. */
const LIMIT_END = 2048;

/** Most MiB of one buffer; undefined where the kernel lets nobody know or change it. */
function sizeLimit(): number | undefined {
  try {
    return Number(readFileSync(LIMIT_PATH, 'utf8'));
  } catch {
    return undefined;
  }
}

/** /dev/udmabuf (`linux/udmabuf.h`): a sealed memfd made a dma-buf, scattered pages. */
export class UdmabufHeap extends DeviceHeap {
  override readonly kind = 'udmabuf';

  private constructor(key: symbol, device: Handle, path: string) {
    super(admitted(key), device, path, udmabufTraits);
  }

  /** @internal */
  static open(path: string): UdmabufHeap {
    return new UdmabufHeap(heapSecret, openDevice(path, native.constants.O_RDWR), path);
  }

  protected override async start({ length }: Request): Promise<Handle> {
    const device = this.device.get('ioctl');
    const size = wholePages(length);
    return ifAvailable(size, false, () => native.udmabufAlloc(device, size));
  }

  protected override startSync({ length }: Request): Handle {
    const device = this.device.get('ioctl');
    const size = wholePages(length);
    return ifAvailableSync(size, false, () => native.udmabufAllocSync(device, size));
  }

  protected override advice(error: number, length: number): string | undefined {
    if (error !== -osConstants.errno.EINVAL) return super.advice(error, length);
    const limit = sizeLimit();
    if (limit === undefined) return `A buffer of ${this.path} has ${DEFAULT_LIMIT} MiB at most in this kernel.`;
    if (length <= limit * 2 ** 20 && limit < LIMIT_END) return super.advice(error, length);
    return `A buffer of ${this.path} has ${limit} MiB at most: write a larger number, below ${LIMIT_END}, to ${LIMIT_PATH} as root, or put udmabuf.size_limit_mb=MIB on the kernel command line.`;
  }
}
