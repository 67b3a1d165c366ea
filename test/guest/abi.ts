// SPDX-License-Identifier: MIT
/** Requests and structs of docs/abi.md, spelled out again: no header of ours is trusted here. */

/** Bytes of a pointer and of a size_t. */
export const POINTER = process.arch === 'arm' ? 4 : 8;

export const EXPORTER_GET_FD = 0;
/** _IOR('E', 1, int) */
export const EXPORTER_IOC_GET_FD = 0x80044501;

export const ION_IOC_ALLOC = 0xc0184900;
export const ION_IOC_HEAP_QUERY = 0xc0184908;
export const ION_IOC_ABI_VERSION = 0x80044909;
export const ION_FLAG_CACHED = 1;
export const ION_SYSTEM_HEAP = 1 << 0;
export const ION_CONTIG_HEAP = 1 << 1;
export const ION_DMA_HEAP = 1 << 4;

/** The handle interface of 3.0 to 4.11, in the layout of programs of this width. */
export const ION_LEGACY_ALLOC = POINTER === 4 ? 0xc0144900 : 0xc0204900;
export const ION_LEGACY_FREE = 0xc0044901;
export const ION_LEGACY_MAP = 0xc0084902;
export const ION_LEGACY_SHARE = 0xc0084904;
export const ION_LEGACY_IMPORT = 0xc0084905;
export const ION_LEGACY_SYNC = 0xc0084907;
export const ION_LEGACY_CUSTOM = POINTER === 4 ? 0xc0084906 : 0xc0104906;
/** Clean, invalidate, both. */
export const ION_LEGACY_FLUSH = [0, 1, 2].map((nr) => (POINTER === 4 ? 0xc0144d00 : 0xc0184d00) + nr);
export const ION_LEGACY_GET_FLAGS = POINTER === 4 ? 0xc0084d03 : 0xc0104d03;
/** Qualcomm's first forms, which 64-bit programs have only of IMPORT. */
export const ION_LEGACY_IMPORT_V0 = 0xc0044905;
export const ION_LEGACY_ALLOC_V0 = 0xc0104900;
export const ION_LEGACY_FLUSH_V0 = [7, 8, 9].map((nr) => 0xc0144900 + nr);
export const ION_LEGACY_GET_FLAGS_V0 = 0xc008490a;

/** _IOW('m', n, int), whatever they carry */
export const CMEM_GET_PHYS = 0x40046d01;
export const CMEM_MAP = 0x40046d02;
export const CMEM_GET_SIZE = 0x40046d03;
export const CMEM_UNMAP = 0x40046d04;
export const CMEM_ALLOCATE = 0x40046d05;
export const CMEM_CONNECT = 0x40046d06;
export const CMEM_GET_TOTAL_SIZE = 0x40046d07;
export const CMEM_CACHE_FLUSH = 0x40046d08;
/** _IOWR('m', 0x20, 24 bytes) */
export const CMEM_IOC_ALLOC = 0xc0186d20;
/** _IOWR('m', 0x21, 16 bytes) */
export const CMEM_IOC_EXPORT = 0xc0106d21;

/** linux/dma-heap.h: _IOWR('H', 0, 24 bytes) */
export const DMA_HEAP_IOCTL_ALLOC = 0xc0184800;
/** The same for a struct of so many bytes. */
export const dmaHeapAlloc = (bytes: number) => (0xc0004800 | (bytes << 16)) >>> 0;

/** linux/dma-buf.h */
export const DMA_BUF_IOCTL_SYNC = 0x40086200;
export const DMA_BUF_SET_NAME = POINTER === 4 ? 0x40046201 : 0x40086201;
export const DMA_BUF_SYNC_READ = 1;
export const DMA_BUF_SYNC_WRITE = 2;
export const DMA_BUF_SYNC_END = 4;

/** _IOW('b', 3, 8 bytes) */
export const DMA_BUF_IOCTL_IMPORT_SYNC_FILE = 0x40086203;

/** drivers/dma-buf/sw_sync.c, which has no header */
export const SW_SYNC_IOC_CREATE_FENCE = 0xc0285700;
export const SW_SYNC_IOC_INC = 0x40045701;

/** Integers, little-endian as every machine here is, of 4 or 8 bytes. */
function pack(...fields: [bytes: 4 | 8, value: number | bigint][]): Buffer {
  return Buffer.concat(
    fields.map(([bytes, value]) => {
      const field = Buffer.alloc(bytes);
      if (bytes === 8) field.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
      else field.writeUInt32LE(Number(value) >>> 0);
      return field;
    }),
  );
}

export interface IonAllocation {
  len: number | bigint;
  mask: number;
  flags?: number;
  fd?: number;
  unused?: number;
}

/** `{u64 len; u32 heap_id_mask; u32 flags; u32 fd; u32 unused}` */
export function ionAllocation({ len, mask, flags = 0, fd = 0, unused = 0 }: IonAllocation): Buffer {
  return pack([8, len], [4, mask], [4, flags], [4, fd], [4, unused]);
}

export const ionFd = (bytes: Buffer) => bytes.readUInt32LE(16);

/** `{size_t len, align; u32 heap_id_mask, flags; int handle}`, on 64 bit with 4 bytes behind */
export function ionLegacyAllocation(data: { len: number; align?: number; mask: number; flags?: number }): Buffer {
  const { len, align = 0, mask, flags = 0 } = data;
  const padding: [4, 0][] = POINTER === 4 ? [] : [[4, 0]];
  return pack([POINTER, len], [POINTER, align], [4, mask], [4, flags], [4, 0], ...padding);
}

/** Where it has the handle. */
export const ionLegacyHandle = (bytes: Buffer) => bytes.readInt32LE(2 * POINTER + 8);

/** `{u32 len, align, flags; int handle}` */
export const ionLegacyAllocationV0 = (len: number, flags: number) => pack([4, len], [4, 0], [4, flags], [4, 0]);

/** `{int handle; int fd}` */
export const ionLegacyFd = (handle: number, fd = 0) => pack([4, handle], [4, fd]);

/** `{u32 cmd; unsigned long arg}` */
export function ionLegacyCustom(cmd: number, heap: number): Buffer {
  return POINTER === 4 ? pack([4, cmd], [4, heap]) : pack([4, cmd], [4, 0], [8, heap]);
}

/** `{int handle; int fd; void *vaddr; u32 offset; u32 length}` */
export function ionLegacyFlush(data: { handle?: number; fd?: number; at: number; offset?: number; len: number }) {
  return pack([4, data.handle ?? 0], [4, data.fd ?? 0], [POINTER, data.at], [4, data.offset ?? 0], [4, data.len]);
}

/** `{int handle; unsigned long flags}` */
export const ionLegacyFlags = (handle: number) =>
  POINTER === 4 ? pack([4, handle], [4, 0xffffffff]) : pack([4, handle], [4, 0], [8, -1]);

export const ionLegacyFlagsOf = (bytes: Buffer) =>
  POINTER === 4 ? bytes.readUInt32LE(4) : Number(bytes.readBigUInt64LE(8));

export interface DmaHeapAllocation {
  len: number | bigint;
  fd?: number;
  fdFlags?: number;
  heapFlags?: number | bigint;
}

/** `{u64 len; u32 fd; u32 fd_flags; u64 heap_flags}` */
export function dmaHeapAllocation({ len, fd = 0, fdFlags = 0, heapFlags = 0 }: DmaHeapAllocation): Buffer {
  return pack([8, len], [4, fd], [4, fdFlags], [8, heapFlags]);
}

export const dmaHeapFd = (bytes: Buffer) => bytes.readUInt32LE(8);

/** `{u32 cnt; u32 reserved0; u64 heaps; u32 reserved1; u32 reserved2}` */
export function ionQuery(query: {
  cnt?: number;
  heaps?: number | bigint;
  reserved?: [number, number, number];
}): Buffer {
  const [reserved0, reserved1, reserved2] = query.reserved ?? [0, 0, 0];
  return pack([4, query.cnt ?? 0], [4, reserved0], [8, query.heaps ?? 0], [4, reserved1], [4, reserved2]);
}

/** `{char name[32]; u32 type; u32 heap_id; u32 reserved0..2}` */
export const ION_HEAP_DATA_BYTES = 52;

export function ionHeapData(bytes: Buffer, index: number): { name: string; type: number; id: number } {
  const entry = bytes.subarray(index * ION_HEAP_DATA_BYTES);
  const name = entry.toString('latin1', 0, entry.indexOf(0));
  return { name, type: entry.readUInt32LE(32), id: entry.readUInt32LE(36) };
}

export interface CmaInfo {
  name?: number;
  cached?: boolean;
  id?: number;
  offset?: number;
  len?: number;
  physical?: number;
  memBase?: number;
}

/** `{char *name; char is_cache; u32 id, offset, len, phy_base, mem_base}`, 28 or 32 bytes */
export function cmaInfo(info: CmaInfo): Buffer {
  const { name = 0, cached = false, id = 0, offset = 0, len = 0, physical = 0, memBase = 0 } = info;
  return pack([POINTER, name], [4, cached ? 1 : 0], [4, id], [4, offset], [4, len], [4, physical], [4, memBase]);
}

export function parseCmaInfo(bytes: Buffer): Required<Pick<CmaInfo, 'id' | 'offset' | 'len' | 'physical' | 'memBase'>> {
  const field = (index: number) => bytes.readUInt32LE(POINTER + 4 + 4 * index);
  return { id: field(0), offset: field(1), len: field(2), physical: field(3), memBase: field(4) };
}

/** `{u64 len; u32 flags; s32 fd; u64 reserved}` */
export function cmaAlloc(data: { len: number | bigint; flags?: number; reserved?: number }): Buffer {
  return pack([8, data.len], [4, data.flags ?? 0], [4, 0], [8, data.reserved ?? 0]);
}

/** `{u32 id; u32 fd_flags; s32 fd; u32 reserved}` */
export function cmaExport(data: { id: number; flags: number; reserved?: number }): Buffer {
  return pack([4, data.id], [4, data.flags], [4, 0], [4, data.reserved ?? 0]);
}

/** Where the struct of CMEM_IOC_ALLOC has the descriptor. */
export const cmaAllocFd = (bytes: Buffer) => bytes.readInt32LE(12);
/** Where the struct of CMEM_IOC_EXPORT has it. */
export const cmaExportFd = (bytes: Buffer) => bytes.readInt32LE(8);

/** `{u64 flags}` of DMA_BUF_IOCTL_SYNC */
export const sync = (flags: number | bigint) => pack([8, flags]);

/** `{u32 flags; s32 fd}` of DMA_BUF_IOCTL_IMPORT_SYNC_FILE */
export const syncFile = (flags: number, fd: number) => pack([4, flags], [4, fd]);

/** `{u32 value; char name[32]; s32 fence}`: a fence for when the timeline gets there */
export const swSyncFence = (value: number) => Buffer.concat([pack([4, value]), Buffer.alloc(32), pack([4, 0])]);
export const swSyncFenceFd = (bytes: Buffer) => bytes.readInt32LE(36);
