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

/** What VIDIOC_QUERYCAP says of a device. */
export interface V4l2Capability {
  driver: string;
  card: string;
  bus: string;
  /** KERNEL_VERSION() */
  version: number;
  /** V4L2_CAP_… bits of this node */
  capabilities: number;
}

/** An entry of VIDIOC_ENUM_FMT. */
export interface V4l2FormatEntry {
  pixelFormat: number;
  description: string;
  /** V4L2_FMT_FLAG_… bits */
  flags: number;
}

/** An entry of VIDIOC_ENUM_FRAMESIZES; the steps of a single size are 0. */
export interface V4l2SizeEntry {
  /** V4L2_FRMSIZE_TYPE_… */
  type: number;
  minWidth: number;
  maxWidth: number;
  stepWidth: number;
  minHeight: number;
  maxHeight: number;
  stepHeight: number;
}

/** struct v4l2_fract */
export interface V4l2Fraction {
  numerator: number;
  denominator: number;
}

/** An entry of VIDIOC_ENUM_FRAMEINTERVALS, in seconds. */
export interface V4l2IntervalEntry {
  /** V4L2_FRMIVAL_TYPE_… */
  type: number;
  min: V4l2Fraction;
  max: V4l2Fraction;
  step: V4l2Fraction;
}

/** An entry of VIDIOC_ENUMINPUT or VIDIOC_ENUMOUTPUT. */
export interface V4l2InputEntry {
  name: string;
  type: number;
  /** V4L2_IN_ST_… bits; 0 of an output */
  status: number;
}

/** struct v4l2_query_ext_ctrl */
export interface V4l2ControlEntry {
  id: number;
  type: number;
  name: string;
  minimum: bigint;
  maximum: bigint;
  step: bigint;
  default: bigint;
  flags: number;
  elementSize: number;
  elements: number;
  dimensions: number[];
}

/** struct v4l2_event; what does not belong to its type is 0. */
export interface V4l2EventEntry {
  type: number;
  id: number;
  sequence: number;
  pending: number;
  /** nanoseconds, of CLOCK_MONOTONIC */
  timestamp: bigint;
  changes: number;
  /** a bigint of V4L2_CTRL_TYPE_INTEGER64 */
  value: number | bigint;
  controlType: number;
  flags: number;
}

/** Where {@link Native.v4l2Format} has which number. The planes begin at `planes`: bytes of a row, and of all. */
export const FormatField = {
  type: 0,
  width: 1,
  height: 2,
  pixelFormat: 3,
  field: 4,
  colorspace: 5,
  ycbcr: 6,
  quantization: 7,
  transfer: 8,
  flags: 9,
  planeCount: 10,
  planes: 11,
  all: 11 + 2 * 8,
} as const;

/** Where {@link Native.v4l2Queue} and the like have which number; the planes begin at `planes`. */
export const BufferField = {
  type: 0,
  memory: 1,
  index: 2,
  flags: 3,
  field: 4,
  sequence: 5,
  /** microseconds */
  timestamp: 6,
  planeCount: 7,
  planes: 8,
  all: 8 + 4 * 8,
} as const;

/** The numbers of one plane after the other, from {@link BufferField.planes} on. */
export const PlaneField = { bytesUsed: 0, length: 1, dataOffset: 2, fd: 3, all: 4 } as const;

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
  | 'F_SEAL_GROW'
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
  | 'UV_DISCONNECT'
  | 'UV_PRIORITIZED';

type V4l2ConstantName =
  | 'BUF_TYPE_VIDEO_CAPTURE'
  | 'BUF_TYPE_VIDEO_OUTPUT'
  | 'BUF_TYPE_VIDEO_CAPTURE_MPLANE'
  | 'BUF_TYPE_VIDEO_OUTPUT_MPLANE'
  | 'MEMORY_MMAP'
  | 'MEMORY_DMABUF'
  | 'CAP_VIDEO_CAPTURE'
  | 'CAP_VIDEO_CAPTURE_MPLANE'
  | 'CAP_VIDEO_OUTPUT'
  | 'CAP_VIDEO_OUTPUT_MPLANE'
  | 'CAP_VIDEO_M2M'
  | 'CAP_VIDEO_M2M_MPLANE'
  | 'CAP_STREAMING'
  | 'CAP_READWRITE'
  | 'CAP_IO_MC'
  | 'FMT_FLAG_COMPRESSED'
  | 'FMT_FLAG_EMULATED'
  | 'FMT_FLAG_CSC_COLORSPACE'
  | 'FMT_FLAG_CSC_XFER_FUNC'
  | 'FMT_FLAG_CSC_YCBCR_ENC'
  | 'FMT_FLAG_CSC_QUANTIZATION'
  | 'PIX_FMT_FLAG_SET_CSC'
  | 'FRMSIZE_TYPE_DISCRETE'
  | 'FRMIVAL_TYPE_DISCRETE'
  | 'FIELD_ANY'
  | 'FIELD_NONE'
  | 'FIELD_TOP'
  | 'FIELD_BOTTOM'
  | 'FIELD_INTERLACED'
  | 'FIELD_SEQ_TB'
  | 'FIELD_SEQ_BT'
  | 'FIELD_ALTERNATE'
  | 'FIELD_INTERLACED_TB'
  | 'FIELD_INTERLACED_BT'
  | 'COLORSPACE_DEFAULT'
  | 'COLORSPACE_SMPTE170M'
  | 'COLORSPACE_SMPTE240M'
  | 'COLORSPACE_REC709'
  | 'COLORSPACE_470_SYSTEM_M'
  | 'COLORSPACE_470_SYSTEM_BG'
  | 'COLORSPACE_JPEG'
  | 'COLORSPACE_SRGB'
  | 'COLORSPACE_OPRGB'
  | 'COLORSPACE_BT2020'
  | 'COLORSPACE_RAW'
  | 'COLORSPACE_DCI_P3'
  | 'YCBCR_ENC_DEFAULT'
  | 'YCBCR_ENC_601'
  | 'YCBCR_ENC_709'
  | 'YCBCR_ENC_XV601'
  | 'YCBCR_ENC_XV709'
  | 'YCBCR_ENC_BT2020'
  | 'YCBCR_ENC_BT2020_CONST_LUM'
  | 'YCBCR_ENC_SMPTE240M'
  | 'QUANTIZATION_DEFAULT'
  | 'QUANTIZATION_FULL_RANGE'
  | 'QUANTIZATION_LIM_RANGE'
  | 'XFER_FUNC_DEFAULT'
  | 'XFER_FUNC_709'
  | 'XFER_FUNC_SRGB'
  | 'XFER_FUNC_OPRGB'
  | 'XFER_FUNC_SMPTE240M'
  | 'XFER_FUNC_NONE'
  | 'XFER_FUNC_DCI_P3'
  | 'XFER_FUNC_SMPTE2084'
  | 'BUF_FLAG_ERROR'
  | 'BUF_FLAG_KEYFRAME'
  | 'BUF_FLAG_PFRAME'
  | 'BUF_FLAG_BFRAME'
  | 'BUF_FLAG_LAST'
  | 'BUF_FLAG_TIMESTAMP_MASK'
  | 'BUF_FLAG_TIMESTAMP_MONOTONIC'
  | 'BUF_FLAG_TIMESTAMP_COPY'
  | 'CTRL_FLAG_DISABLED'
  | 'CTRL_FLAG_GRABBED'
  | 'CTRL_FLAG_READ_ONLY'
  | 'CTRL_FLAG_INACTIVE'
  | 'CTRL_FLAG_WRITE_ONLY'
  | 'CTRL_FLAG_VOLATILE'
  | 'CTRL_FLAG_HAS_PAYLOAD'
  | 'CTRL_FLAG_DYNAMIC_ARRAY'
  | 'CTRL_FLAG_NEXT_CTRL'
  | 'CTRL_FLAG_NEXT_COMPOUND'
  | 'CTRL_TYPE_INTEGER'
  | 'CTRL_TYPE_BOOLEAN'
  | 'CTRL_TYPE_MENU'
  | 'CTRL_TYPE_BUTTON'
  | 'CTRL_TYPE_INTEGER64'
  | 'CTRL_TYPE_CTRL_CLASS'
  | 'CTRL_TYPE_STRING'
  | 'CTRL_TYPE_BITMASK'
  | 'CTRL_TYPE_INTEGER_MENU'
  | 'CTRL_TYPE_U8'
  | 'CTRL_TYPE_U16'
  | 'CTRL_TYPE_U32'
  | 'EVENT_CTRL'
  | 'EVENT_EOS'
  | 'EVENT_SOURCE_CHANGE'
  | 'EVENT_FRAME_SYNC'
  | 'EVENT_SRC_CH_RESOLUTION'
  | 'EVENT_CTRL_CH_VALUE'
  | 'EVENT_CTRL_CH_FLAGS'
  | 'EVENT_CTRL_CH_RANGE'
  | 'EVENT_SUB_FL_SEND_INITIAL'
  | 'EVENT_SUB_FL_ALLOW_FEEDBACK'
  | 'DEC_CMD_START'
  | 'DEC_CMD_STOP'
  | 'ENC_CMD_START'
  | 'ENC_CMD_STOP'
  | 'SEL_TGT_CROP'
  | 'SEL_TGT_COMPOSE'
  | 'IN_ST_NO_SIGNAL'
  | 'IN_ST_NO_POWER'
  | 'MAX_FRAME'
  | 'MAX_PLANES';

interface Native {
  /** What a call answers beside its value, until the next one: {@link numbers}. */
  readonly numbers: ArrayBuffer;
  /** Numbers from the kernel's and libuv's headers. */
  readonly constants: Readonly<Record<ConstantName, number>>;
  /** The same from linux/videodev2.h, without V4L2_. */
  readonly v4l2: Readonly<Record<V4l2ConstantName, number>>;

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
  /** {@link numbers} are the fields of {@link Description}. */
  describe(handle: Handle): number;

  /**
   * Maps for reading and writing, shared; `offset` is a multiple of the page size. The first of {@link numbers} is a
   * handle for {@link Native.unmap}.
   */
  map(handle: Handle, offset: number, length: number): OrErrno<ArrayBuffer>;
  /** The same for all threads; -ENOTSUP where Node cannot. */
  mapShared(handle: Handle, offset: number, length: number): OrErrno<SharedArrayBuffer>;
  /** Detaches; 1 where script has moved the memory out of the ArrayBuffer: it lives on then. */
  unmap(mapping: Handle): number;
  /** Fills `destination` through a read-only mapping that is gone afterwards. */
  copy(handle: Handle, offset: number, destination: ArrayBuffer): number;

  /** DMA_BUF_IOCTL_SYNC, repeated on EINTR, and on EAGAIN for two seconds; -EBUSY where its start would wait for a fence. */
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
  /** CMEM_GET_SIZE */
  cmaSize(device: Handle, id: number): number;
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
  /**
   * UV_READABLE | UV_WRITABLE | UV_DISCONNECT | UV_PRIORITIZED; 0 stops, and lets the process end, as what is not
   * `referenced` does.
   */
  pollerUpdate(poller: Handle, events: number, referenced: boolean): number;
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
   * One recvmsg: the bytes that came. {@link numbers} are {@link Received}, how many descriptors there are, and their
   * numbers, which belong to the caller.
   */
  socketReceive(handle: Handle, into: Uint8Array, records: boolean): number;

  /** What socketReceive gave belongs to handles or to the script now: until then it is closed with the thread. */
  socketClaimed(): number;

  /** VIDIOC_QUERYCAP */
  v4l2Capability(device: Handle): OrErrno<V4l2Capability>;
  /** VIDIOC_ENUM_FMT; `type` is one of V4L2_BUF_TYPE_…, here and below */
  v4l2EnumFormat(device: Handle, type: number, index: number): OrErrno<V4l2FormatEntry>;
  /** VIDIOC_ENUM_FRAMESIZES */
  v4l2EnumSize(device: Handle, pixelFormat: number, index: number): OrErrno<V4l2SizeEntry>;
  /** VIDIOC_ENUM_FRAMEINTERVALS */
  v4l2EnumInterval(
    device: Handle,
    pixelFormat: number,
    width: number,
    height: number,
    index: number,
  ): OrErrno<V4l2IntervalEntry>;
  /** VIDIOC_G_FMT, …TRY_FMT, …S_FMT: `how` is 0, 1, 2; `numbers` are those of {@link FormatField} */
  v4l2Format(device: Handle, how: number, numbers: ArrayBuffer): number;
  /** VIDIOC_S_PARM, or VIDIOC_G_PARM where the denominator is 0: seconds from one frame to the next */
  v4l2Interval(device: Handle, type: number, numerator: number, denominator: number): OrErrno<V4l2Fraction>;
  /** VIDIOC_ENUMINPUT, VIDIOC_ENUMOUTPUT */
  v4l2EnumInput(device: Handle, output: boolean, index: number): OrErrno<V4l2InputEntry>;
  /** VIDIOC_S_INPUT, …S_OUTPUT, …G_INPUT, …G_OUTPUT: the index in use; -1 sets none */
  v4l2Input(device: Handle, output: boolean, index: number): number;
  /** VIDIOC_G_SELECTION */
  v4l2Selection(
    device: Handle,
    type: number,
    target: number,
  ): OrErrno<{ left: number; top: number; width: number; height: number }>;

  /** VIDIOC_QUERY_EXT_CTRL */
  v4l2QueryControl(device: Handle, id: number): OrErrno<V4l2ControlEntry>;
  /** VIDIOC_QUERYMENU: an item's name, or its number where `numbers` */
  v4l2QueryMenu(device: Handle, id: number, index: number, numbers: boolean): OrErrno<string | bigint>;
  /** VIDIOC_G_EXT_CTRLS of one; `bytes` of a payload, or 0 */
  v4l2GetControl(
    device: Handle,
    id: number,
    type: number,
    bytes: number,
  ): OrErrno<[number | bigint | string | Uint8Array<ArrayBuffer>]>;
  /** VIDIOC_S_EXT_CTRLS, or …TRY_EXT_CTRLS; failed[0] becomes error_idx */
  v4l2SetControls(
    device: Handle,
    ids: readonly number[],
    values: readonly (number | bigint | string | Uint8Array)[],
    failed: number[],
    set: boolean,
  ): number;

  /** VIDIOC_REQBUFS: how many there are now; 0 frees them */
  v4l2RequestBuffers(device: Handle, type: number, memory: number, count: number): number;
  /** VIDIOC_QBUF; `numbers` are those of {@link BufferField}, here and below */
  v4l2Queue(device: Handle, numbers: ArrayBuffer): number;
  /** VIDIOC_DQBUF; -EAGAIN where none is done */
  v4l2Dequeue(device: Handle, numbers: ArrayBuffer): number;
  /** VIDIOC_EXPBUF: a dma-buf */
  v4l2ExportBuffer(device: Handle, type: number, index: number, plane: number): Handle;
  /** VIDIOC_STREAMON, VIDIOC_STREAMOFF */
  v4l2Stream(device: Handle, type: number, on: boolean): number;

  /** VIDIOC_SUBSCRIBE_EVENT, VIDIOC_UNSUBSCRIBE_EVENT */
  v4l2Subscribe(device: Handle, type: number, id: number, flags: number, on: boolean): number;
  /** VIDIOC_DQEVENT; -ENOENT where there is none */
  v4l2DequeueEvent(device: Handle): OrErrno<V4l2EventEntry>;
  /** VIDIOC_ENCODER_CMD, VIDIOC_DECODER_CMD */
  v4l2CodecCommand(device: Handle, encoder: boolean, command: number, flags: number): number;

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
    const found = () => {
      const built = existsSync(release) ? readdirSync(release).filter((name) => name.endsWith('.node')) : [];
      return built.length > 0 ? `found ${built.join(', ')} in ${release}` : `${release} holds no addon`;
    };
    const reason = isMissing(error) ? 'it is in none of the usual places' : String(error);
    const { code } = error as NodeJS.ErrnoException;
    // Of the permission model: looking for files has failed by it as well. Without it --no-addons has the first.
    const refused = code === 'ERR_DLOPEN_DISABLED' || code === 'ERR_ACCESS_DENIED';
    const limits =
      process.permission === undefined
        ? 'Node.js, or this thread of it, runs with --no-addons: leave that out'
        : `Node.js runs with --permission: add --allow-addons and --allow-fs-read=${root}`;
    const cure = refused
      ? limits
      : `Looked below ${root}; ${found()}. Build it with: cd ${root} && npm run build:native`;
    throw new Error(
      `dmabuf: cannot load its native part, dmabuf.node for ${process.platform}-${process.arch}, ` +
        `Node ${process.version}: ${reason}. ${cure}`,
      { cause: error },
    );
  }
}

/** The addon. A copy: so many functions, exported one by one, V8 keeps as a dictionary, where each is looked up. */
export const native: Native = { ...load() };

/** What the last call of some functions answered beside its value. */
export const numbers = new Float64Array(native.numbers);

/** What a descriptor refers to. */
export function describe(handle: Handle): OrErrno<Description> {
  const error = native.describe(handle);
  if (error < 0) return error;
  const field = (index: number) => numbers[index] as number;
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
