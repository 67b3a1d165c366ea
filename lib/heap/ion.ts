// SPDX-License-Identifier: MIT
import { constants as osConstants } from 'node:os';
import { allocationAdvice } from '../advice.js';
import { systemError } from '../errors.js';
import { type Handle, type IonHeap as IonHeapEntry, native } from '../native.js';
import { DeviceHeap, openDevice, type Request } from './heap.js';

const { constants } = native;

/** Where ION is. */
export const ION_PATH = '/dev/ion';

const contiguousTypes: readonly number[] = [
  constants.ION_HEAP_TYPE_SYSTEM_CONTIG,
  constants.ION_HEAP_TYPE_CARVEOUT,
  constants.ION_HEAP_TYPE_DMA,
];

/** Whether buffers of this heap are one piece. @internal */
export function isContiguous(heap: IonHeapEntry): boolean {
  return contiguousTypes.includes(heap.type);
}

function query(device: Handle, path: string): IonHeapEntry[] {
  const heaps = native.ionHeaps(device);
  if (typeof heaps !== 'number') return heaps;
  throw systemError(heaps, 'ioctl', path, allocationAdvice(heaps, path, false));
}

/** What ION_IOC_HEAP_QUERY lists. @internal */
export function ionHeaps(path: string): IonHeapEntry[] {
  const device = openDevice(path, constants.O_RDONLY);
  try {
    return query(device, path);
  } finally {
    native.close(device);
  }
}

/** One heap of /dev/ion, the interface of Linux 4.12 to 5.10 (ION_IOC_ALLOC). */
export class IonHeap extends DeviceHeap {
  override readonly kind = 'ion';
  /** The heap's bit in `heap_id_mask`. */
  readonly id: number;
  protected override readonly uncached = true;

  private constructor(device: Handle, path: string, { name, id }: IonHeapEntry, contiguous: boolean) {
    super(device, path, name, contiguous);
    this.id = id;
  }

  /**
   * @param wanted - a name or an id; default: the system heap, or else the first there is
   * @internal
   */
  static open(path: string, wanted: string | number | undefined): IonHeap {
    const device = openDevice(path, constants.O_RDONLY);
    try {
      const heaps = query(device, path);
      const found =
        wanted === undefined
          ? (heaps.find((heap) => heap.type === constants.ION_HEAP_TYPE_SYSTEM) ?? heaps[0])
          : heaps.find((heap) => heap.name === wanted || heap.id === wanted);
      if (found === undefined) {
        const names = heaps.map((heap) => `${heap.name} (${heap.id})`).join(', ') || 'none';
        throw systemError(
          -osConstants.errno.ENODEV,
          'ioctl',
          path,
          `There is no heap ${JSON.stringify(wanted ?? 'at all')} there; its heaps are: ${names}.`,
        );
      }
      return new IonHeap(device, path, found, isContiguous(found));
    } catch (error) {
      native.close(device);
      throw error;
    }
  }

  protected override start({ length, cached }: Request): Promise<Handle> {
    return native.ionAlloc(this.device.get('ioctl'), length, this.#mask, cached);
  }

  protected override startSync({ length, cached }: Request): Handle {
    return native.ionAllocSync(this.device.get('ioctl'), length, this.#mask, cached);
  }

  get #mask(): number {
    return (1 << this.id) >>> 0;
  }
}
