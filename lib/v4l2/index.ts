// SPDX-License-Identifier: MIT
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Frames of V4L2 devices in buffers of this library: cameras, and what shows or converts frames, without a copy.
 *
 * @packageDocumentation
 */
export { Capture, type FramesOptions } from './capture.js';
export { Codec, type CodecChoice, type ProcessOptions } from './codec.js';
export type { CodecBuffers, CodecBytes, CodecInput } from './codec-input.js';
export type { CodecSide, PictureArea } from './codec-side.js';
export { type CodecKind, CodecStream } from './codec-stream.js';
export type { Control, ControlType, ControlValue, MenuItem } from './controls.js';
export type { OneWayDevice, VideoDevice, VideoInput } from './device.js';
export { type VideoDeviceChoice, type VideoDeviceInfo, type VideoDeviceKind, videoDevices } from './devices.js';
export type { EventOptions, EventType, VideoEvent } from './events.js';
export type {
  Colorspace,
  FieldOrder,
  Format,
  FormatRequest,
  Fraction,
  FrameInterval,
  FrameSize,
  PixelFormatInfo,
  PlaneFormat,
  Port,
  Quantization,
  TransferFunction,
  YcbcrEncoding,
} from './formats.js';
export { fourccCode, fourccName } from './fourcc.js';
export { Frame, type FramePlane } from './frame.js';
export type { FrameSource } from './frame-source.js';
export type { Unnamed } from './names.js';
export { Output, type PlayOptions, type SinkOptions } from './output.js';
export type { BufferInfo, PlaneUse } from './queue.js';
export { type PipelineReport, pipelineReport, type Staged, type StageReport } from './report.js';
export { FrameSink, OutputFrame } from './sink.js';
export { FrameStream } from './stream.js';
