// SPDX-License-Identifier: MIT
// The controls of a V4L2 device.
#include <cstring>
#include <deque>
#include <vector>

#include "bindings.h"
#include "v4l2.h"

namespace dmabuf {
namespace {

// More than any compound control of the kernel's has, and less than hurts.
constexpr uint32_t kMaxPayload = 1 << 20;
// As V4L2_CID_MAX_CTRLS, which the kernel keeps to itself.
constexpr uint32_t kMaxControls = 1024;

// v4l2QueryControl(device, id): {id, type, name, minimum, maximum, step, default, flags, elementSize, elements,
// dimensions} or -errno. With V4L2_CTRL_FLAG_NEXT_CTRL | …_NEXT_COMPOUND it is the one that follows.
Napi::Value QueryControl(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_query_ext_ctrl data = {};
  data.id = arguments.Unsigned32(1);
  const int fd = VideoDevice(info, arguments, handle);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_QUERY_EXT_CTRL, &data);
  if (error != 0) return Result(env, error);
  Napi::Object found = Napi::Object::New(env);
  found.Set("id", data.id);
  found.Set("type", data.type);
  found.Set("name", Text(data.name));
  found.Set("minimum", Napi::BigInt::New(env, static_cast<int64_t>(data.minimum)));
  found.Set("maximum", Napi::BigInt::New(env, static_cast<int64_t>(data.maximum)));
  found.Set("step", Napi::BigInt::New(env, static_cast<uint64_t>(data.step)));
  found.Set("default", Napi::BigInt::New(env, static_cast<int64_t>(data.default_value)));
  found.Set("flags", data.flags);
  found.Set("elementSize", data.elem_size);
  found.Set("elements", data.elems);
  const uint32_t count = std::min<uint32_t>(data.nr_of_dims, V4L2_CTRL_MAX_DIMS);
  Napi::Array dimensions = Napi::Array::New(env, count);
  for (uint32_t i = 0; i < count; i++) dimensions.Set(i, data.dims[i]);
  found.Set("dimensions", dimensions);
  return found;
}

// v4l2QueryMenu(device, id, index, numbers): the name of an item, or what it stands for where the menu is of numbers;
// -errno where there is no such item
Napi::Value QueryMenu(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_querymenu data = {};
  data.id = arguments.Unsigned32(1);
  data.index = arguments.Unsigned32(2);
  const bool numbers = arguments.Boolean(3);
  const int fd = VideoDevice(info, arguments, handle);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_QUERYMENU, &data);
  if (error != 0) return Result(env, error);
  if (numbers) return Napi::BigInt::New(env, static_cast<int64_t>(data.value));
  return Napi::String::New(env, Text(data.name));
}

// v4l2GetControl(device, id, type, bytes): a number, a bigint of V4L2_CTRL_TYPE_INTEGER64, a string, or a Buffer of
// what else has a payload of `bytes`; in an array of one, or -errno
Napi::Value GetControl(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_ext_control control = {};
  control.id = arguments.Unsigned32(1);
  const uint32_t type = arguments.Unsigned32(2);
  const auto bytes = static_cast<uint32_t>(arguments.Unsigned(3, kMaxPayload));
  const int fd = VideoDevice(info, arguments, handle);
  if (fd < 0) return Result(env, fd);
  std::vector<char> payload(bytes);
  if (bytes > 0) {
    control.size = bytes;
    control.ptr = payload.data();
  }
  v4l2_ext_controls controls = {};
  controls.which = V4L2_CTRL_WHICH_CUR_VAL;
  controls.count = 1;
  controls.controls = &control;
  const int error = Ioctl(fd, VIDIOC_G_EXT_CTRLS, &controls);
  if (error != 0) return Result(env, error);
  Napi::Array found = Napi::Array::New(env, 1);
  if (bytes == 0) {
    // a packed struct gives no references
    const int64_t wide = control.value64;
    const int32_t narrow = control.value;
    if (type == V4L2_CTRL_TYPE_INTEGER64) {
      found.Set(0U, Napi::BigInt::New(env, wide));
    } else if (type == V4L2_CTRL_TYPE_BITMASK) {
      found.Set(0U, Napi::Number::New(env, static_cast<uint32_t>(narrow)));
    } else {
      found.Set(0U, Napi::Number::New(env, narrow));
    }
  } else if (type == V4L2_CTRL_TYPE_STRING) {
    found.Set(0U, Napi::String::New(env, payload.data(), strnlen(payload.data(), bytes)));
  } else {
    found.Set(0U, Napi::Buffer<char>::Copy(env, payload.data(), bytes));
  }
  return found;
}

// One value of JavaScript's into a control; what it points to lives in `payloads`.
bool ReadValue(const Napi::Value& value, v4l2_ext_control& control, std::deque<std::string>& payloads) {
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (!(number >= INT32_MIN && number <= UINT32_MAX) || number != std::floor(number)) return false;
    control.value = static_cast<int32_t>(static_cast<uint32_t>(static_cast<int64_t>(number)));
    return true;
  }
  if (value.IsBigInt()) {
    bool lossless = false;
    control.value64 = value.As<Napi::BigInt>().Int64Value(&lossless);
    return lossless;
  }
  if (value.IsString()) {
    payloads.push_back(value.As<Napi::String>().Utf8Value());
    // with its NUL
    control.size = static_cast<uint32_t>(payloads.back().size() + 1);
  } else if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    const auto bytes = value.As<Napi::Uint8Array>();
    payloads.emplace_back(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
    control.size = static_cast<uint32_t>(payloads.back().size());
  } else {
    return false;
  }
  control.ptr = payloads.back().data();
  return payloads.back().size() < kMaxPayload;
}

// v4l2SetControls(device, ids, values, failed, set): all or none; failed[0] becomes the index of the one that was refused,
// or their number where that is not known. Without `set` nothing is changed, and it is known.
Napi::Value SetControls(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  const bool set = arguments.Boolean(4);
  if (!arguments.Ok() || !info[1].IsArray() || !info[2].IsArray()) return Result(env, -EINVAL);
  const auto ids = info[1].As<Napi::Array>();
  const auto values = info[2].As<Napi::Array>();
  const uint32_t count = ids.Length();
  if (count == 0 || count > kMaxControls || count != values.Length()) {
    return Result(env, -EINVAL);
  }
  std::deque<std::string> payloads;
  std::vector<v4l2_ext_control> list(count);
  for (uint32_t i = 0; i < count; i++) {
    const Napi::Value id = ids.Get(i);
    if (!id.IsNumber() || !ReadValue(values.Get(i), list[i], payloads)) return Result(env, -EINVAL);
    list[i].id = id.As<Napi::Number>().Uint32Value();
  }
  const int fd = VideoDevice(info, arguments, handle);
  v4l2_ext_controls controls = {};
  controls.which = V4L2_CTRL_WHICH_CUR_VAL;
  controls.count = count;
  controls.controls = list.data();
  const int error = fd < 0 ? fd : Ioctl(fd, set ? VIDIOC_S_EXT_CTRLS : VIDIOC_TRY_EXT_CTRLS, &controls);
  if (error != 0 && info[3].IsArray()) info[3].As<Napi::Array>().Set(0U, controls.error_idx);
  return Result(env, error);
}

}  // namespace

void RegisterV4l2Controls(Napi::Env env, Napi::Object exports) {
  Register<QueryControl>(env, exports, "v4l2QueryControl");
  Register<QueryMenu>(env, exports, "v4l2QueryMenu");
  Register<GetControl>(env, exports, "v4l2GetControl");
  Register<SetControls>(env, exports, "v4l2SetControls");
}

}  // namespace dmabuf
