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
export { CodecSide, type PictureArea } from './codec-side.js';
export { type CodecKind, CodecStream } from './codec-stream.js';
export type { Control, ControlType, ControlValue, MenuItem } from './controls.js';
export { OneWayDevice, VideoDevice, type VideoInput } from './device.js';
export { type VideoDeviceChoice, type VideoDeviceInfo, type VideoDeviceKind, videoDevices } from './devices.js';
export type { EventOptions, EventType, VideoEvent } from './events.js';
export {
  type Colorspace,
  type FieldOrder,
  type Format,
  type FormatRequest,
  type Fraction,
  type FrameInterval,
  type FrameSize,
  type PixelFormatInfo,
  type PlaneFormat,
  Port,
  type Quantization,
  type TransferFunction,
  type YcbcrEncoding,
} from './formats.js';
export { fourccCode, fourccName } from './fourcc.js';
export { Frame, type FramePlane } from './frame.js';
export { FrameSource } from './frame-source.js';
export type { Unnamed } from './names.js';
export { Output, type PlayOptions, type SinkOptions } from './output.js';
export type { BufferInfo, PlaneUse } from './queue.js';
export { type PipelineReport, pipelineReport, type Staged, type StageReport } from './report.js';
export { FrameSink, OutputFrame } from './sink.js';
export { FrameStream } from './stream.js';
