// SPDX-License-Identifier: MIT
// What a V4L2 device tells by itself, and what a codec is told.
#include <cstring>

#include "bindings.h"
#include "v4l2.h"

namespace dmabuf {
namespace {

constexpr int64_t kNanoseconds = 1000000000;

// v4l2Subscribe(device, type, id, flags, on)
Napi::Value Subscribe(const Call& info) {
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_event_subscription data = {};
  data.type = arguments.Unsigned32(1);
  data.id = arguments.Unsigned32(2);
  data.flags = arguments.Unsigned32(3);
  const bool on = arguments.Boolean(4);
  const int fd = VideoDevice(info, arguments, handle);
  const unsigned long request = on ? VIDIOC_SUBSCRIBE_EVENT : VIDIOC_UNSUBSCRIBE_EVENT;
  return Result(info.Env(), fd < 0 ? fd : Ioctl(fd, request, &data));
}

// v4l2DequeueEvent(device): {type, id, sequence, pending, timestamp, changes, value, controlType, flags}, -ENOENT where
// there is none, or -errno. What does not belong to its type is 0; the timestamp is a BigInt of nanoseconds, and the value
// of a control of 64 bits is a BigInt.
Napi::Value DequeueEvent(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_event data = {};
  const int fd = VideoDevice(info, arguments, handle);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_DQEVENT, &data);
  if (error != 0) return Result(env, error);
  uint32_t changes = 0;
  Napi::Value value = Napi::Number::New(env, 0);
  uint32_t control_type = 0;
  uint32_t flags = 0;
  if (data.type == V4L2_EVENT_SOURCE_CHANGE) {
    changes = data.u.src_change.changes;
  } else if (data.type == V4L2_EVENT_FRAME_SYNC) {
    value = Napi::Number::New(env, data.u.frame_sync.frame_sequence);
  } else if (data.type == V4L2_EVENT_CTRL) {
    const v4l2_event_ctrl& control = data.u.ctrl;
    changes = control.changes;
    control_type = control.type;
    flags = control.flags;
    if (control_type == V4L2_CTRL_TYPE_INTEGER64) {
      value = Napi::BigInt::New(env, static_cast<int64_t>(control.value64));
    } else if (control_type == V4L2_CTRL_TYPE_BITMASK) {
      // has no sign, whatever the struct says
      value = Napi::Number::New(env, static_cast<uint32_t>(control.value));
    } else {
      value = Napi::Number::New(env, control.value);
    }
  }
  Napi::Object found = Napi::Object::New(env);
  found.Set("type", data.type);
  found.Set("id", data.id);
  found.Set("sequence", data.sequence);
  found.Set("pending", data.pending);
  found.Set("timestamp", Napi::BigInt::New(env, static_cast<int64_t>(data.timestamp.tv_sec) * kNanoseconds +
                                                    static_cast<int64_t>(data.timestamp.tv_nsec)));
  found.Set("changes", changes);
  found.Set("value", value);
  found.Set("controlType", control_type);
  found.Set("flags", flags);
  return found;
}

// v4l2CodecCommand(device, encoder, command, flags)
Napi::Value CodecCommand(const Call& info) {
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  const bool encoder = arguments.Boolean(1);
  v4l2_encoder_cmd encode = {};
  v4l2_decoder_cmd decode = {};
  encode.cmd = decode.cmd = arguments.Unsigned32(2);
  encode.flags = decode.flags = arguments.Unsigned32(3);
  const int fd = VideoDevice(info, arguments, handle);
  if (fd < 0) return Result(info.Env(), fd);
  return Result(info.Env(), encoder ? Ioctl(fd, VIDIOC_ENCODER_CMD, &encode) : Ioctl(fd, VIDIOC_DECODER_CMD, &decode));
}

}  // namespace

void RegisterV4l2Events(Napi::Env env, Napi::Object exports) {
  Register<Subscribe>(env, exports, "v4l2Subscribe");
  Register<DequeueEvent>(env, exports, "v4l2DequeueEvent");
  Register<CodecCommand>(env, exports, "v4l2CodecCommand");
}

}  // namespace dmabuf
