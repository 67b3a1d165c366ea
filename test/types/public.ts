// SPDX-License-Identifier: MIT
/**
 * What the types of the library promise, checked by `tsc` as part of lint: each line that must not compile says so,
 * and lint fails where it does. Nothing here is run.
 *
 * @module
 */
import {
  type Access,
  type AccessDirection,
  type BufferMessage,
  type BufferPool,
  DmaBuf,
  DmaBufError,
  type DmaBufInfo,
  type dmabufs,
  type FdSocket,
  type Heap,
  type HeapInfo,
  type HeapKind,
  heaps,
  type liveBuffers,
  type Mapping,
  type NativePixmap,
  openHeap,
  type Plane,
  type PoolBuffer,
  rows,
  SyncFile,
} from 'dmabuf';
import {
  Capture,
  Codec,
  type CodecKind,
  type CodecStream,
  type Control,
  type ControlValue,
  type Format,
  Frame,
  type FrameSink,
  type FrameStream,
  Output,
  type OutputFrame,
  type PipelineReport,
  pipelineReport,
  type VideoDeviceInfo,
  type VideoEvent,
  type videoDevices,
} from 'dmabuf/v4l2';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Compiles where `A` is exactly `B`. */
function is<A, B>(..._: Equal<A, B> extends true ? [] : [never]): void {}
/** What no value of the library may be: `any` is everything at once. */
type IsAny<T> = 0 extends 1 & T ? true : false;

export async function promises(
  heap: Heap,
  buffer: DmaBuf,
  mapping: Mapping,
  socket: FdSocket,
  pool: typeof BufferPool,
  pooled: PoolBuffer,
): Promise<void> {
  // The kinds tell the heaps apart.
  for (const info of heaps()) {
    is<typeof info, HeapInfo>();
    if (info.kind === 'memfd') {
      is<typeof info.dma, false>();
      is<typeof info.path, 'memfd'>();
      is<typeof info.error, undefined>();
    } else is<typeof info.dma, true>();
    if (!info.dma) is<typeof info.kind, 'memfd'>();
  }
  is<HeapKind, 'ion' | 'dma-heap' | 'cma-mem' | 'udmabuf' | 'memfd'>();
  is<HeapInfo['kind'], HeapKind>();

  is<ReturnType<typeof openHeap>, Heap>();
  const memfd = openHeap('memfd', { heap: 'memfd', contiguous: false });
  is<typeof memfd.kind, 'memfd'>();
  // @ts-expect-error of ION only
  openHeap('memfd', { mask: 1 });
  // @ts-expect-error and so is this
  openHeap('dma-heap', { type: 'carveout' });
  const someKind = (kind: HeapKind) => openHeap(kind, { mask: 1 });
  is<ReturnType<typeof someKind>['kind'], HeapKind>();
  const anything = (kindOrPath: string) => openHeap(kindOrPath, { type: 'carveout' });
  is<ReturnType<typeof anything>, Heap>();
  const either = (kindOrPath: 'ion' | '/dev/dma_heap/system') => openHeap(kindOrPath);
  is<ReturnType<typeof either>, Heap>();
  const byKind = openHeap('ion', { heap: 4 });
  is<typeof byKind.kind, 'ion'>();
  const byPath = openHeap('/dev/somewhere/else');
  is<typeof byPath.kind, HeapKind>();
  openHeap({ contiguous: true, dma: false });
  // @ts-expect-error a need there is not
  openHeap({ contigous: true });
  // @ts-expect-error needs and a choice
  openHeap({ contiguous: true }, { heap: 4 });
  // @ts-expect-error no type of ION
  openHeap('ion', { type: 'carveouts' });

  is<ReturnType<Heap['alloc']>, Promise<DmaBuf>>();
  is<ReturnType<Heap['allocSync']>, DmaBuf>();
  heap.allocSync(4096, { planes: [{ stride: 64 }, { offset: 2048, stride: 32, length: 1024 }] });
  // @ts-expect-error a plane without a stride
  heap.allocSync(4096, { planes: [{ offset: 0 }] });
  // @ts-expect-error bytes are numbers
  heap.allocSync(4096n);

  // What a callback returns is what is returned, a promise too.
  is<ReturnType<typeof readNumber>, number>();
  function readNumber() {
    return buffer.read((bytes) => bytes.length);
  }
  const later = buffer.readwrite(async (bytes) => bytes);
  is<typeof later, Promise<Uint8Array<ArrayBuffer>>>();
  buffer.write((bytes) => void is<typeof bytes, Uint8Array<ArrayBuffer>>());

  is<AccessDirection, 'read' | 'write' | 'readwrite'>();
  const access = await buffer.access('read', { signal: AbortSignal.timeout(1) });
  is<typeof access, Access>();
  // @ts-expect-error no direction
  buffer.accessSync('readonly');
  // @ts-expect-error the bytes of an access are not replaced
  access.bytes = new Uint8Array();
  for (const row of access.rows(0, 12)) is<typeof row, Uint8Array<ArrayBuffer>>();
  for (const row of rows(new Uint8Array(buffer.mapShared()), { stride: 4 })) {
    is<typeof row, Uint8Array<SharedArrayBuffer>>();
  }

  is<Mapping['buffer'], ArrayBuffer>();
  // @ts-expect-error nor is the memory of a mapping
  mapping.buffer = new ArrayBuffer(1);
  is<DmaBuf['planes'], readonly Plane[]>();
  // @ts-expect-error planes are what they were told
  buffer.planes[0].stride = 1;
  is<ReturnType<DmaBuf['toNativePixmap']>, NativePixmap>();

  is<ReturnType<DmaBuf['exportSyncFile']>, SyncFile>();
  // @ts-expect-error a SyncFile and no number
  buffer.importSyncFile(3, 'read');

  // @ts-expect-error made by heaps
  new DmaBuf();
  // @ts-expect-error by fromFd
  new SyncFile(3);

  await socket.send({ any: ['JSON'] }, [buffer, 3]);
  // @ts-expect-error a Mapping is no descriptor
  await socket.send(0, [mapping]);
  for await (const { value, fds } of socket) {
    is<typeof value, unknown>();
    is<typeof fds, number[]>();
  }

  for await (const { value, buffers } of socket.buffers()) {
    is<typeof value, unknown>();
    is<typeof buffers, readonly DmaBuf[]>();
  }

  is<ReturnType<BufferPool['acquire']>, Promise<PoolBuffer>>();
  // @ts-expect-error how many?
  await pool.create(heap, 4096, {});
  // @ts-expect-error lent by its own send()
  await socket.send(0, [pooled]);

  is<ReturnType<typeof liveBuffers>, DmaBuf[]>();
  is<ReturnType<typeof dmabufs>, DmaBufInfo[]>();

  const error: unknown = undefined;
  if (error instanceof DmaBufError) {
    if (error.code === 'ERR_DMABUF_BUSY') return;
    // @ts-expect-error a code there is not
    if (error.code === 'ERR_DMABUF_BUSIER') return;
  }

  // All of them are disposables.
  const all: Disposable[] = [heap, buffer, mapping, access, socket, buffer.exportSyncFile('read')];
  is<(typeof all)[number], Disposable>();
}

export async function video(camera: Capture, output: Output, heap: Heap, buffer: DmaBuf): Promise<void> {
  is<ReturnType<typeof videoDevices>, VideoDeviceInfo[]>();
  is<VideoDeviceInfo['kind'], 'capture' | 'output' | 'both' | 'm2m' | 'other'>();
  is<ReturnType<typeof Capture.open>, Capture>();
  // @ts-expect-error a name there is not
  Output.open({ drivr: 'vivid' });
  // @ts-expect-error made by open()
  new Capture();
  // @ts-expect-error made by loops
  new Frame();

  is<ReturnType<Capture['setFormat']>, Format>();
  camera.setFormat({ pixelFormat: 'YUYV', field: 'none', planes: [{ stride: 4096 }] });
  // @ts-expect-error no such field
  camera.setFormat({ field: 'both' });
  // A later kernel's words are numbers.
  camera.setFormat({ colorspace: '#77' });
  is<ReturnType<Capture['getControl']>, ControlValue>();
  camera.setControls({ brightness: 1, flip: true, menu: 'Item', wide: 1n, bytes: new Uint8Array(3) });
  // @ts-expect-error no value
  camera.setControls({ brightness: [1] });

  camera.frames({ buffers: [buffer, [buffer, buffer]], latest: true, signal: AbortSignal.timeout(1) });
  // @ts-expect-error a heap, not its name
  camera.frames({ heap: 'ion' });
  const stream = camera.frames({ count: 3, heap });
  is<typeof stream, FrameStream>();
  for await (using frame of stream) {
    is<typeof frame, Frame>();
    is<typeof frame.timestamp, bigint>();
    is<typeof frame.buffers, DmaBuf[]>();
    const bytes = frame.read((all) => all.length, 1);
    is<typeof bytes, number>();
    // @ts-expect-error a frame is what it is
    frame.sequence = 1;
  }
  for await (const event of camera.events(['source-change'])) {
    is<typeof event, VideoEvent>();
    // @ts-expect-error only some have one
    void event.resolution;
    if (event.type === 'source-change') is<typeof event.resolution, boolean>();
  }
  // @ts-expect-error no event
  camera.events(['change']);

  const sink = output.sink({ count: 3, heap });
  is<typeof sink, FrameSink>();
  is<ReturnType<FrameSink['acquire']>, Promise<OutputFrame>>();
  is<ReturnType<Output['play']>, Promise<number>>();
  // @ts-expect-error frames that are none
  await output.play([buffer]);
  is<ReturnType<typeof pipelineReport>, PipelineReport>();
  // @ts-expect-error nothing to report
  pipelineReport(buffer);

  const codec = Codec.open({ from: 'NV12', to: 'H264' });
  is<typeof codec, Codec>();
  is<Codec['kind'], CodecKind>();
  codec.input.setFormat(camera.format);
  const coding = codec.process(stream, { count: 3, inputCount: 2, heap });
  is<typeof coding, CodecStream>();
  for await (using frame of codec.process(coding)) is<typeof frame, Frame>();
  codec.process([
    buffer,
    new Uint8Array(3),
    { buffers: [buffer, buffer], done: () => {} },
    { bytes: [], timestamp: 1n },
  ]);
  // @ts-expect-error bytes are not what goes in one by one
  codec.process(new Uint8Array(3));
  // @ts-expect-error nanoseconds
  codec.process([{ buffers: buffer, timestamp: 1 }]);
  pipelineReport(stream, coding, sink);

  const all: Disposable[] = [camera, output, codec, stream, coding, sink, await sink.acquire()];
  is<(typeof all)[number], Disposable>();
}

/** Members that are `any`, of what a program gets; there are none. */
type AnyMembers<T> = { [K in keyof T]-?: IsAny<T[K]> extends true ? K : never }[keyof T];
is<AnyMembers<Heap> | AnyMembers<DmaBuf> | AnyMembers<Mapping> | AnyMembers<Access>, never>();
is<AnyMembers<FdSocket> | AnyMembers<SyncFile> | AnyMembers<DmaBufError> | AnyMembers<HeapInfo>, never>();
is<AnyMembers<BufferPool> | AnyMembers<PoolBuffer> | AnyMembers<BufferMessage>, never>();
is<AnyMembers<DmaBufInfo> | AnyMembers<NativePixmap> | AnyMembers<Plane>, never>();
is<AnyMembers<Capture> | AnyMembers<Output> | AnyMembers<FrameStream> | AnyMembers<FrameSink>, never>();
is<AnyMembers<Frame> | AnyMembers<OutputFrame> | AnyMembers<Format> | AnyMembers<Control>, never>();
is<AnyMembers<Codec> | AnyMembers<CodecStream> | AnyMembers<Codec['input']>, never>();
