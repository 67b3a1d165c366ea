// SPDX-License-Identifier: MIT
// The buffers of a V4L2 queue: made, given to the driver and taken back.
#include <fcntl.h>

#include <cstring>

#include "bindings.h"
#include "numbers.h"
#include "v4l2.h"

namespace dmabuf {
namespace {

constexpr int64_t kMicroseconds = 1000000;

// v4l2RequestBuffers(device, type, memory, count): how many there are now, or -errno; 0 frees them
Napi::Value RequestBuffers(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_requestbuffers data = {};
  data.type = arguments.Unsigned32(1);
  data.memory = arguments.Unsigned32(2);
  data.count = arguments.Unsigned32(3);
  const int fd = VideoDevice(info, arguments, handle);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_REQBUFS, &data);
  return Result(env, error != 0 ? error : static_cast<int>(std::min<uint32_t>(data.count, INT32_MAX)));
}

// Where the calls below have which number; native.ts names them, too.
enum BufferField : size_t {
  kType,
  kMemory,
  kIndex,
  kFlags,
  kField,
  kSequence,
  // microseconds
  kTimestamp,
  kPlaneCount,
  kPlanes,
};

enum PlaneField : size_t { kBytesUsed, kLength, kDataOffset, kFd, kPlaneNumbers };

constexpr size_t kBufferNumbers = kPlanes + kPlaneNumbers * VIDEO_MAX_PLANES;

struct Buffer {
  v4l2_buffer data = {};
  v4l2_plane planes[VIDEO_MAX_PLANES] = {};

  Buffer(uint32_t type, uint32_t memory) {
    data.type = type;
    data.memory = memory;
    if (!IsMultiplanar(type)) return;
    data.m.planes = planes;
    data.length = VIDEO_MAX_PLANES;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
};

void SetPlane(Numbers& numbers, size_t plane, uint32_t used, uint32_t length, uint32_t offset) {
  const size_t at = kPlanes + plane * kPlaneNumbers;
  numbers.Set(at + kBytesUsed, used);
  numbers.Set(at + kLength, length);
  numbers.Set(at + kDataOffset, offset);
}

void WriteBuffer(Numbers& numbers, const Buffer& buffer) {
  const v4l2_buffer& data = buffer.data;
  numbers.Set(kIndex, data.index);
  numbers.Set(kFlags, data.flags);
  numbers.Set(kField, data.field);
  numbers.Set(kSequence, data.sequence);
  numbers.Set(kTimestamp, static_cast<double>(data.timestamp.tv_sec) * kMicroseconds +
                              static_cast<double>(data.timestamp.tv_usec));
  if (!IsMultiplanar(data.type)) {
    numbers.Set(kPlaneCount, 1);
    SetPlane(numbers, 0, data.bytesused, data.length, 0);
    return;
  }
  const size_t planes = std::min<size_t>(data.length, VIDEO_MAX_PLANES);
  numbers.Set(kPlaneCount, static_cast<double>(planes));
  for (size_t i = 0; i < planes; i++) {
    const v4l2_plane& plane = buffer.planes[i];
    SetPlane(numbers, i, plane.bytesused, plane.length, plane.data_offset);
  }
}

// v4l2Dequeue(device, numbers): type and memory are read, the rest is filled in; -EAGAIN where none is done
Napi::Value Dequeue(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  Numbers numbers(info, 1, kBufferNumbers);
  Buffer buffer(numbers.Unsigned32(kType), numbers.Unsigned32(kMemory));
  const int fd = VideoDevice(info, arguments, handle);
  if (!numbers.Ok()) return Result(env, -EINVAL);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_DQBUF, &buffer.data);
  if (error == 0) WriteBuffer(numbers, buffer);
  return Result(env, error);
}

// v4l2Queue(device, numbers): everything is read but the sequence; a plane's descriptor is -1 where the memory is the
// driver's
Napi::Value Queue(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  Numbers numbers(info, 1, kBufferNumbers);
  Buffer buffer(numbers.Unsigned32(kType), numbers.Unsigned32(kMemory));
  v4l2_buffer& data = buffer.data;
  data.index = numbers.Unsigned32(kIndex);
  data.flags = numbers.Unsigned32(kFlags);
  data.field = numbers.Unsigned32(kField);
  const uint64_t timestamp = numbers.Unsigned(kTimestamp);
  data.timestamp.tv_sec = static_cast<decltype(data.timestamp.tv_sec)>(timestamp / kMicroseconds);
  data.timestamp.tv_usec = static_cast<decltype(data.timestamp.tv_usec)>(timestamp % kMicroseconds);
  const uint32_t planes = numbers.Unsigned32(kPlaneCount);
  const bool multiplanar = IsMultiplanar(data.type);
  const bool imported = data.memory == V4L2_MEMORY_DMABUF;
  // memory of a process by its address is for nobody who is not sure of it
  if (!imported && data.memory != V4L2_MEMORY_MMAP) return Result(env, -EINVAL);
  if (planes == 0 || planes > (multiplanar ? VIDEO_MAX_PLANES : 1)) return Result(env, -EINVAL);
  for (size_t i = 0; i < planes; i++) {
    const size_t at = kPlanes + i * kPlaneNumbers;
    v4l2_plane& plane = buffer.planes[i];
    plane.bytesused = numbers.Unsigned32(at + kBytesUsed);
    plane.length = numbers.Unsigned32(at + kLength);
    plane.data_offset = numbers.Unsigned32(at + kDataOffset);
    if (imported) plane.m.fd = numbers.Signed(at + kFd);
  }
  if (multiplanar) {
    data.length = planes;
  } else {
    data.bytesused = buffer.planes[0].bytesused;
    data.length = buffer.planes[0].length;
    if (imported) data.m.fd = buffer.planes[0].m.fd;
  }
  const int fd = VideoDevice(info, arguments, handle);
  if (!numbers.Ok()) return Result(env, -EINVAL);
  return Result(env, fd < 0 ? fd : Ioctl(fd, VIDIOC_QBUF, &data));
}

// v4l2ExportBuffer(device, type, index, plane): a handle of a dma-buf of the driver's memory
Napi::Value ExportBuffer(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_exportbuffer data = {};
  data.type = arguments.Unsigned32(1);
  data.index = arguments.Unsigned32(2);
  data.plane = arguments.Unsigned32(3);
  data.flags = O_RDWR | O_CLOEXEC;
  const int fd = VideoDevice(info, arguments, handle);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_EXPBUF, &data);
  if (error != 0) return Result(env, error);
  return info.Environment().Adopt(env, UniqueFd(data.fd));
}

// v4l2Stream(device, type, on)
Napi::Value Stream(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  int type = static_cast<int>(arguments.Unsigned(1, INT32_MAX));
  const bool on = arguments.Boolean(2);
  const int fd = VideoDevice(info, arguments, handle);
  return Result(env, fd < 0 ? fd : Ioctl(fd, on ? VIDIOC_STREAMON : VIDIOC_STREAMOFF, &type));
}

}  // namespace

void RegisterV4l2Buffers(Napi::Env env, Napi::Object exports) {
  Register<RequestBuffers>(env, exports, "v4l2RequestBuffers");
  Register<Queue>(env, exports, "v4l2Queue");
  Register<Dequeue>(env, exports, "v4l2Dequeue");
  Register<ExportBuffer>(env, exports, "v4l2ExportBuffer");
  Register<Stream>(env, exports, "v4l2Stream");
}

}  // namespace dmabuf
