// SPDX-License-Identifier: MIT
import { join } from 'node:path';
import { allocationAdvice, blockAdvice, carveoutAdvice, memoryAdvice } from '../advice.js';
import { systemError } from '../errors.js';
import { type Handle, type IonHeap as IonHeapEntry, native } from '../native.js';
import { choose, type HeapChoice, type HeapTraits, type IonHeapType, inWords, maskOf, noSuchHeap } from './choice.js';
import { admitted, DeviceHeap, heapSecret, openDevice, type Request } from './heap.js';
import { ifReadable, readStats } from './stats.js';

const { constants } = native;

/** Where ION is. */
export const ION_PATH = '/dev/ion';

/** The kernel's numbers of the types. @internal */
export const ionHeapTypes: Readonly<Record<IonHeapType, number>> = {
  system: constants.ION_HEAP_TYPE_SYSTEM,
  system_contig: constants.ION_HEAP_TYPE_SYSTEM_CONTIG,
  carveout: constants.ION_HEAP_TYPE_CARVEOUT,
  chunk: constants.ION_HEAP_TYPE_CHUNK,
  dma: constants.ION_HEAP_TYPE_DMA,
  custom: constants.ION_HEAP_TYPE_CUSTOM,
  iommu: constants.ION_HEAP_TYPE_IOMMU,
  protected: constants.ION_HEAP_TYPE_PROTECTED,
};

const contiguousTypes: readonly unknown[] = ['system_contig', 'carveout', 'dma', 'protected'] satisfies IonHeapType[];

interface IonTraits extends HeapTraits {
  id: number;
}

function traitsOf({ name, id, type: number }: IonHeapEntry): IonTraits {
  const type = (Object.keys(ionHeapTypes) as IonHeapType[]).find((word) => ionHeapTypes[word] === number);
  return {
    name,
    contiguous: contiguousTypes.includes(type),
    protected: type === 'protected',
    uncached: true,
    id,
    ...(type === undefined ? {} : { type }),
  };
}

function query(device: Handle, path: string): IonTraits[] {
  const heaps = native.ionHeaps(device);
  if (typeof heaps === 'number') throw systemError(heaps, 'ioctl', path, allocationAdvice(heaps, path, false));
  return heaps.map(traitsOf);
}

/** What ION_IOC_HEAP_QUERY lists, in the order in which the heaps of a mask are tried. @internal */
export function ionHeaps(path: string): IonTraits[] {
  const device = openDevice(path, constants.O_RDONLY);
  try {
    return query(device, path);
  } finally {
    native.close(device);
  }
}

/** What is true of a buffer from any of them. */
function together(heaps: readonly [IonTraits, ...IonTraits[]]): HeapTraits {
  if (heaps.length === 1) return heaps[0];
  return {
    name: heaps.map(({ name }) => name).join('+'),
    contiguous: heaps.every(({ contiguous }) => contiguous),
    protected: heaps.some((heap) => heap.protected),
    uncached: true,
  };
}

/** One heap of /dev/ion, or several, the interface of Linux 4.12 to 5.10 (ION_IOC_ALLOC). */
export class IonHeap extends DeviceHeap {
  override readonly kind = 'ion';
  readonly #heaps: readonly IonTraits[];
  readonly #mask: number;

  private constructor(key: symbol, device: Handle, path: string, heaps: readonly [IonTraits, ...IonTraits[]]) {
    super(admitted(key), device, path, together(heaps));
    this.#heaps = heaps;
    this.#mask = maskOf(heaps);
  }

  /**
   * @param choice - of one heap; by default the system heap, or else the first there is
   * @param mask - or of each that has its bit in it
   * @internal
   */
  static open(path: string, choice: HeapChoice, mask?: number): IonHeap {
    const device = openDevice(path, constants.O_RDONLY);
    try {
      const heaps = query(device, path);
      const chosen =
        mask === undefined
          ? [choose(heaps, choice, ({ type }) => type === 'system')]
          : heaps.filter((heap) => (maskOf([heap]) & mask) !== 0);
      const [first, ...others] = chosen.filter((heap) => heap !== undefined);
      if (first === undefined) {
        const wanted = mask === undefined ? inWords(choice) : `of the mask 0x${mask.toString(16)}`;
        throw noSuchHeap('ioctl', path, wanted, heaps);
      }
      return new IonHeap(heapSecret, device, path, [first, ...others]);
    } catch (error) {
      native.close(device);
      throw error;
    }
  }

  /**
   * What to do where an allocation from the heaps of a mask was refused.
   *
   * @throws SystemError ENODEV: the mask has none
   * @internal
   */
  static adviceOn(error: number, path: string, mask: number, length: number): string | undefined {
    using heap = IonHeap.open(path, {}, mask);
    return heap.advice(error, length);
  }

  protected override start({ length, cached }: Request): Promise<Handle> {
    return native.ionAlloc(this.device.get('ioctl'), length, this.#mask, cached);
  }

  protected override startSync({ length, cached }: Request): Handle {
    return native.ionAllocSync(this.device.get('ioctl'), length, this.#mask, cached);
  }

  /** Several heaps have no id, and no folder. */
  protected override get figuresFolder(): string {
    return join(this.sysfs, `heap${this.id}`);
  }

  protected override memory(size: number): string {
    return this.#heaps.map((heap) => this.#memoryOf(heap, size)).join(' ');
  }

  #memoryOf({ id, name, type, contiguous }: IonTraits, size: number): string {
    const stats = ifReadable(() => readStats(join(this.sysfs, `heap${id}`), this.sysfs));
    if (stats?.size !== undefined && stats.largestFree !== undefined) {
      return carveoutAdvice(name, size, stats.size, stats.largestFree);
    }
    if (type === 'carveout') return `The heap ${name} has no piece of memory that large.`;
    return type === 'system_contig' ? blockAdvice(name) : memoryAdvice(contiguous, name);
  }
}
