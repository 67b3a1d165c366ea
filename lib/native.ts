// SPDX-License-Identifier: MIT
/**
 * The one typed declaration of what C++ offers, and the only file that knows the addon.
 *
 * Every function answers with a negative errno where the kernel refused. What it owns is
 * named by handles: numbers never used twice, for which no other number can stand.
 *
 * @module
 */
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Names a descriptor or poller the addon owns; never 0. */
export type Handle = number;

/** A negative errno, or what the function is for. */
export type OrErrno<T> = T | number;

/** What a descriptor refers to. */
export interface Description {
  fd: number;
  /** one of {@link FileKind} */
  kind: number;
  /** bytes; whole pages for a dma-buf */
  size: number;
  inode: number;
  /** O_RDONLY, O_WRONLY or O_RDWR */
  access: number;
  /** F_SEAL_… bits of a memfd */
  seals: number;
  /** of a character device; -1 of anything else */
  deviceMajor: number;
  deviceMinor: number;
}

/** {@link Description.kind} */
export const FileKind = { other: 0, dmaBuf: 1, memfd: 2 } as const;

/** One entry of ION_IOC_HEAP_QUERY. */
export interface IonHeap {
  name: string;
  type: number;
  id: number;
}

/** What CMEM_ALLOCATE answered, or CMEM_MAP and CMEM_GET_PHYS. */
export interface CmaRegion {
  id: number;
  offset: number;
  length: number;
  physicalBase: number;
}

/** Bytes, of all clients of /dev/cma_mem; from 4 GiB on 4 GiB - 1. */
export interface CmaTotals {
  /** what it may hand out at a time */
  total: number;
  /** what is left of it */
  free: number;
}

/** Bits of what socketReceive says. */
export const Received = {
  /** MSG_CTRUNC: descriptors were lost */
  lost: 1,
  /** MSG_TRUNC: the record was longer */
  cut: 2,
  /** the peer has closed */
  end: 4,
} as const;

/** Who a process is (SO_PEERCRED), as this one's namespaces number it. */
export interface Credentials {
  /** 0 where it is in no namespace of ours */
  pid: number;
  /** effective user */
  uid: number;
  /** effective group */
  gid: number;
}

type ConstantName =
  | 'O_RDONLY'
  | 'O_WRONLY'
  | 'O_RDWR'
  | 'F_SEAL_SHRINK'
  | 'F_SEAL_WRITE'
  | 'F_SEAL_FUTURE_WRITE'
  | 'PAGE_SIZE'
  | 'DMA_BUF_NAME_LEN'
  | 'DMA_BUF_SYNC_READ'
  | 'DMA_BUF_SYNC_WRITE'
  | 'DMA_BUF_SYNC_START'
  | 'DMA_BUF_SYNC_END'
  | 'ION_HEAP_TYPE_SYSTEM'
  | 'ION_HEAP_TYPE_SYSTEM_CONTIG'
  | 'ION_HEAP_TYPE_CARVEOUT'
  | 'ION_HEAP_TYPE_CHUNK'
  | 'ION_HEAP_TYPE_DMA'
  | 'ION_HEAP_TYPE_CUSTOM'
  | 'ION_HEAP_TYPE_IOMMU'
  | 'ION_HEAP_TYPE_PROTECTED'
  | 'UNIX_PATH_MAX'
  | 'SOCK_STREAM'
  | 'SOCK_SEQPACKET'
  | 'SCM_MAX_FD'
  | 'ETOOMANYREFS'
  | 'UV_READABLE'
  | 'UV_WRITABLE'
  | 'UV_DISCONNECT';

interface Native {
  /** Numbers from the kernel's and libuv's headers. */
  readonly constants: Readonly<Record<ConstantName, number>>;

  /** open(2), close-on-exec and non-blocking. */
  open(path: string, flags: number): Handle;
  /** The number belongs to the handle, unless this fails; -EBUSY where one owns it already. */
  adopt(fd: number): Handle;
  /** The same for a number that the kernel has just given. */
  adoptNew(fd: number): Handle;
  /** A new number for the same file. */
  duplicate(handle: Handle): Handle;
  duplicateFd(fd: number): Handle;
  /** The number; -EBADF or -ESTALE where it was closed or given to another file behind our back. */
  fd(handle: Handle): number;
  /** What {@link describe} says of it, without asking the kernel. */
  inode(handle: Handle): number;
  /** Forgets the handle and closes its number, unless that is another file's now. */
  close(handle: Handle): number;
  /** Forgets the handle; the number is the caller's. */
  release(handle: Handle): number;
  /** Fills `into` with the fields of {@link Description} as doubles. */
  describe(handle: Handle, into: ArrayBuffer): number;

  /** Maps for reading and writing, shared; `offset` is a multiple of the page size. */
  map(handle: Handle, offset: number, length: number): OrErrno<ArrayBuffer>;
  /** The same for all threads; -ENOTSUP where Node cannot. */
  mapShared(handle: Handle, offset: number, length: number): OrErrno<SharedArrayBuffer>;
  /** Detaches; 1 where script has moved the memory out of the ArrayBuffer: it lives on then. */
  unmap(buffer: ArrayBuffer): number;
  /** Fills `destination` through a read-only mapping that is gone afterwards. */
  copy(handle: Handle, offset: number, destination: ArrayBuffer): number;

  /** DMA_BUF_IOCTL_SYNC, repeated on EINTR and EAGAIN; -EBUSY where its start would wait for a fence. */
  sync(handle: Handle, flags: number): number;
  /** poll(2) of a dma-buf: 1 where no fence is in the way of such an access (DMA_BUF_SYNC_READ, …_WRITE), else 0. */
  ready(handle: Handle, flags: number): number;
  /** DMA_BUF_IOCTL_EXPORT_SYNC_FILE */
  exportSyncFile(handle: Handle, flags: number): Handle;
  /** DMA_BUF_IOCTL_IMPORT_SYNC_FILE */
  importSyncFile(handle: Handle, syncFile: Handle, flags: number): number;
  /** SYNC_IOC_FILE_INFO: 0 active, 1 signalled, or the negative errno it ended with; -ENOTTY where it is no such file. */
  syncFileStatus(handle: Handle): OrErrno<{ status: number }>;
  /** DMA_BUF_SET_NAME */
  setName(handle: Handle, name: string): number;

  /** ION_IOC_ALLOC */
  ionAlloc(device: Handle, length: number, heapMask: number, cached: boolean): Promise<Handle>;
  ionAllocSync(device: Handle, length: number, heapMask: number, cached: boolean): Handle;
  /** ION_IOC_HEAP_QUERY */
  ionHeaps(device: Handle): OrErrno<IonHeap[]>;

  /** ION_LEGACY_IOC_ALLOC: a number of ION's, from 1; lost with the device if the environment ends first */
  ionHandleAlloc(device: Handle, length: number, align: number, heapMask: number, cached: boolean): Promise<number>;
  ionHandleAllocSync(device: Handle, length: number, align: number, heapMask: number, cached: boolean): number;
  /** ION_LEGACY_IOC_FREE */
  ionHandleFree(device: Handle, id: number): number;
  /** ION_LEGACY_IOC_SHARE */
  ionHandleShare(device: Handle, id: number): Handle;
  /** ION_LEGACY_IOC_IMPORT: a number of ION's */
  ionHandleImport(device: Handle, fd: number): number;
  /** ION_LEGACY_IOC_SYNC */
  ionHandleSync(device: Handle, fd: number): number;
  /** ION_LEGACY_IOC_CLEAN_CACHES, …_INV_CACHES, …_CLEAN_INV_CACHES: `how` is 0, 1, 2 */
  ionHandleFlush(device: Handle, id: number, how: number, bytes: Uint8Array, offset: number): number;
  /** ION_LEGACY_IOC_GET_FLAGS */
  ionHandleFlags(device: Handle, id: number): number;
  /** ION_LEGACY_IOC_CUSTOM */
  ionHeapSecure(device: Handle, heapId: number, secure: boolean): number;

  /** DMA_HEAP_IOCTL_ALLOC */
  dmaHeapAlloc(device: Handle, length: number): Promise<Handle>;
  dmaHeapAllocSync(device: Handle, length: number): Handle;

  /** CMEM_IOC_ALLOC */
  cmaAlloc(device: Handle, length: number, cached: boolean): Promise<Handle>;
  cmaAllocSync(device: Handle, length: number, cached: boolean): Handle;
  /** CMEM_ALLOCATE; an empty name is none */
  cmaAllocate(device: Handle, length: number, cached: boolean, name: string): Promise<OrErrno<CmaRegion>>;
  cmaAllocateSync(device: Handle, length: number, cached: boolean, name: string): OrErrno<CmaRegion>;
  /** CMEM_IOC_EXPORT */
  cmaExport(device: Handle, id: number, readonly: boolean): Handle;
  /** CMEM_MAP and CMEM_GET_PHYS; address 0 without CAP_SYS_RAWIO */
  cmaRegion(device: Handle, id: number): OrErrno<CmaRegion>;
  /** CMEM_UNMAP */
  cmaUnmap(device: Handle, id: number): number;
  /** CMEM_CONNECT */
  cmaConnect(device: Handle, fd: number): number;
  /** CMEM_CACHE_FLUSH */
  cmaFlush(device: Handle, id: number, offset: number, length: number): number;
  /** CMEM_GET_TOTAL_SIZE */
  cmaTotals(device: Handle): OrErrno<CmaTotals>;

  /** A sealed memfd; `size` is in whole pages. */
  memfdAlloc(size: number, name: string): Promise<Handle>;
  memfdAllocSync(size: number, name: string): Handle;

  /** UDMABUF_CREATE of a sealed memfd; `size` is in whole pages. */
  udmabufAlloc(device: Handle, size: number): Promise<Handle>;
  udmabufAllocSync(device: Handle, size: number): Handle;

  /** EXPORTER_IOC_GET_FD */
  exporterGetFd(device: Handle): Handle;

  /** Watches a descriptor on the loop of this thread. */
  pollerCreate(handle: Handle, callback: (events: number) => void): Handle;
  /** UV_READABLE | UV_WRITABLE | UV_DISCONNECT; 0 stops, and lets the process end. */
  pollerUpdate(poller: Handle, events: number): number;
  pollerClose(poller: Handle): number;

  /** `type` is SOCK_STREAM or SOCK_SEQPACKET, here and below. */
  socketPair(type: number): OrErrno<[Handle, Handle]>;
  /** A path that begins with NUL is an abstract name. */
  socketListen(path: string, backlog: number, type: number): Handle;
  socketConnect(path: string, type: number): Handle;
  socketAccept(listener: Handle): Handle;
  /** SOCK_STREAM or SOCK_SEQPACKET; -EPROTOTYPE where it is no such unix socket. */
  socketType(handle: Handle): number;
  socketPeer(handle: Handle): OrErrno<Credentials>;
  /** The bytes the kernel took from `offset` on; `fds` have gone with the first. */
  socketSend(handle: Handle, bytes: Uint8Array, offset: number, fds: readonly number[]): number;
  /** The bytes of the next record. */
  socketNext(handle: Handle): number;
  /**
   * One recvmsg: the bytes that came. Fills `also` with doubles: {@link Received}, how many descriptors there are, and
   * their numbers, which belong to the caller.
   */
  socketReceive(handle: Handle, into: Uint8Array, records: boolean, also: ArrayBuffer): number;

  /** What socketReceive gave belongs to handles or to the script now: until then it is closed with the thread. */
  socketClaimed(): number;

  /** pidfd_open(2) and pidfd_getfd(2) */
  pidfdGetFd(pid: number, fd: number): Handle;
}

function isMissing(error: unknown): error is Error & { tries?: string[] } {
  return error instanceof Error && 'tries' in error;
}

function load(): Native {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const release = join(root, 'build', 'Release');
  const bindings = createRequire(import.meta.url)('bindings') as (options: object) => Native;
  try {
    return bindings({ bindings: 'dmabuf.node', module_root: root });
  } catch (error) {
    const built = existsSync(release) ? readdirSync(release).filter((name) => name.endsWith('.node')) : [];
    const found = built.length > 0 ? `found ${built.join(', ')} in ${release}` : `${release} holds no addon`;
    const reason = isMissing(error) ? 'it is in none of the usual places' : String(error);
    throw new Error(
      `dmabuf: cannot load its native part, dmabuf.node for ${process.platform}-${process.arch}, ` +
        `Node ${process.version}: ${reason}. Looked below ${root}; ${found}. ` +
        `Build it with: cd ${root} && npm run build:native`,
      { cause: error },
    );
  }
}

/** The addon. */
export const native: Native = load();

/** Filled anew for each. */
const described = new Float64Array(8);

/** What a descriptor refers to. */
export function describe(handle: Handle): OrErrno<Description> {
  const error = native.describe(handle, described.buffer);
  if (error < 0) return error;
  const field = (index: number) => described[index] as number;
  return {
    fd: field(0),
    kind: field(1),
    size: field(2),
    inode: field(3),
    access: field(4),
    seals: field(5),
    deviceMajor: field(6),
    deviceMinor: field(7),
  };
}
