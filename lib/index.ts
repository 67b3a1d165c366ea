// SPDX-License-Identifier: MIT
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Real DMA buffers for Node.js: allocate them, look at them as `ArrayBuffer`s without a
 * copy, hand them to other processes.
 *
 * @packageDocumentation
 */
export { Access } from './access.js';
export type { Range } from './arguments.js';
export { BufferMessage } from './buffer-message.js';
export { BufferPool, type BufferPoolOptions, PoolBuffer } from './buffer-pool.js';
export { parentSocket, spawnWithSocket, workerWithSocket } from './children.js';
export { CmaMem, type CmaTotals, type ExportOptions, Region, type RegionOptions } from './cma-mem.js';
export { DmaBuf, type FromFdOptions, liveBuffers, type NativePixmap, type NativePixmapOptions } from './dmabuf.js';
export { type DmaBufHolder, type DmaBufInfo, dmabufs } from './dmabufs.js';
export { DmaBufError, type DmaBufErrorCode, type ErrorDetails, type SystemError } from './errors.js';
export { Exporter, type ExporterOptions } from './exporter.js';
export { FdServer } from './fd-server.js';
export { type FdMessage, FdSocket } from './fd-socket.js';
export { type AccessDirection, SyncFile, type WaitOptions } from './fences.js';
export type { HeapChoice, HeapTraits, IonHeapType } from './heap/choice.js';
export { type AllocOptions, Heap, type HeapKind } from './heap/heap.js';
export { type HeapFigures, type HeapStats, heapStats } from './heap/stats.js';
export {
  type DeviceHeapInfo,
  type HeapInfo,
  type HeapNeeds,
  type HeapOf,
  type HeapsOptions,
  heaps,
  type IonHeapInfo,
  type MemfdHeapInfo,
  type OpenHeapOptions,
  type OpenHeapOptionsOf,
  openHeap,
} from './heaps.js';
export { Mapping, PAGE_SIZE } from './mapping.js';
export type { Credentials } from './native.js';
export { pidfdGetFd } from './pidfd.js';
export { type Plane, type PlaneOptions, rows } from './planes.js';
export {
  type FdSocketOptions,
  type ListenOptions,
  MAX_MESSAGE_BYTES,
  MAX_MESSAGE_FDS,
} from './socket-options.js';
