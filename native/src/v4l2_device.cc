// SPDX-License-Identifier: MIT
// What a V4L2 device is, what it offers, and its format.
#include <cstring>

#include "bindings.h"
#include "numbers.h"
#include "v4l2.h"

namespace dmabuf {
namespace {

// v4l2Capability(device): {driver, card, bus, version, capabilities} or -errno; the capabilities are this node's
Napi::Value Capability(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  const int fd = VideoDevice(info, arguments, handle);
  if (fd < 0) return Result(env, fd);
  v4l2_capability data = {};
  const int error = Ioctl(fd, VIDIOC_QUERYCAP, &data);
  if (error != 0) return Result(env, error);
  Napi::Object found = Napi::Object::New(env);
  found.Set("driver", Text(data.driver));
  found.Set("card", Text(data.card));
  found.Set("bus", Text(data.bus_info));
  found.Set("version", data.version);
  const bool has_own = (data.capabilities & V4L2_CAP_DEVICE_CAPS) != 0;
  found.Set("capabilities", has_own ? data.device_caps : data.capabilities);
  return found;
}

// v4l2EnumFormat(device, type, index): {pixelFormat, description, flags} or -errno
Napi::Value EnumFormat(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_fmtdesc data = {};
  data.type = arguments.Unsigned32(1);
  data.index = arguments.Unsigned32(2);
  const int fd = VideoDevice(info, arguments, handle);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_ENUM_FMT, &data);
  if (error != 0) return Result(env, error);
  Napi::Object found = Napi::Object::New(env);
  found.Set("pixelFormat", data.pixelformat);
  found.Set("description", Text(data.description));
  found.Set("flags", data.flags);
  return found;
}

// v4l2EnumSize(device, pixelFormat, index): {type, minWidth, maxWidth, stepWidth, …Height} or -errno
Napi::Value EnumSize(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_frmsizeenum data = {};
  data.pixel_format = arguments.Unsigned32(1);
  data.index = arguments.Unsigned32(2);
  const int fd = VideoDevice(info, arguments, handle);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_ENUM_FRAMESIZES, &data);
  if (error != 0) return Result(env, error);
  if (data.type == V4L2_FRMSIZE_TYPE_DISCRETE) {
    const v4l2_frmsize_discrete one = data.discrete;
    data.stepwise = {one.width, one.width, 0, one.height, one.height, 0};
  }
  Napi::Object found = Napi::Object::New(env);
  found.Set("type", data.type);
  found.Set("minWidth", data.stepwise.min_width);
  found.Set("maxWidth", data.stepwise.max_width);
  found.Set("stepWidth", data.stepwise.step_width);
  found.Set("minHeight", data.stepwise.min_height);
  found.Set("maxHeight", data.stepwise.max_height);
  found.Set("stepHeight", data.stepwise.step_height);
  return found;
}

void SetFraction(Napi::Object object, const char* name, const v4l2_fract& fraction) {
  Napi::Object value = Napi::Object::New(object.Env());
  value.Set("numerator", fraction.numerator);
  value.Set("denominator", fraction.denominator);
  object.Set(name, value);
}

// v4l2EnumInterval(device, pixelFormat, width, height, index): {type, min, max, step} of seconds, or -errno
Napi::Value EnumInterval(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_frmivalenum data = {};
  data.pixel_format = arguments.Unsigned32(1);
  data.width = arguments.Unsigned32(2);
  data.height = arguments.Unsigned32(3);
  data.index = arguments.Unsigned32(4);
  const int fd = VideoDevice(info, arguments, handle);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_ENUM_FRAMEINTERVALS, &data);
  if (error != 0) return Result(env, error);
  if (data.type == V4L2_FRMIVAL_TYPE_DISCRETE) {
    const v4l2_fract one = data.discrete;
    data.stepwise = {one, one, {0, 1}};
  }
  Napi::Object found = Napi::Object::New(env);
  found.Set("type", data.type);
  SetFraction(found, "min", data.stepwise.min);
  SetFraction(found, "max", data.stepwise.max);
  SetFraction(found, "step", data.stepwise.step);
  return found;
}

// Where v4l2Format() has which number; native.ts names them, too.
enum FormatField : size_t {
  kType,
  kWidth,
  kHeight,
  kPixelFormat,
  kField,
  kColorspace,
  kYcbcr,
  kQuantization,
  kTransfer,
  kFlags,
  kPlaneCount,
  // the bytes of a row, and those of all, of each plane
  kPlanes,
  kFormatNumbers = kPlanes + size_t{2} * VIDEO_MAX_PLANES,
};

void ReadFormat(Numbers& numbers, v4l2_format& format) {
  const uint32_t planes = numbers.Unsigned32(kPlaneCount);
  if (IsMultiplanar(format.type)) {
    v4l2_pix_format_mplane& pix = format.fmt.pix_mp;
    pix.width = numbers.Unsigned32(kWidth);
    pix.height = numbers.Unsigned32(kHeight);
    pix.pixelformat = numbers.Unsigned32(kPixelFormat);
    pix.field = numbers.Unsigned32(kField);
    pix.colorspace = numbers.Unsigned32(kColorspace);
    pix.ycbcr_enc = static_cast<uint8_t>(numbers.Unsigned32(kYcbcr));
    pix.quantization = static_cast<uint8_t>(numbers.Unsigned32(kQuantization));
    pix.xfer_func = static_cast<uint8_t>(numbers.Unsigned32(kTransfer));
    pix.flags = static_cast<uint8_t>(numbers.Unsigned32(kFlags));
    pix.num_planes = static_cast<uint8_t>(std::min<uint32_t>(planes, VIDEO_MAX_PLANES));
    for (size_t i = 0; i < pix.num_planes; i++) {
      pix.plane_fmt[i].bytesperline = numbers.Unsigned32(kPlanes + 2 * i);
      pix.plane_fmt[i].sizeimage = numbers.Unsigned32(kPlanes + 2 * i + 1);
    }
    return;
  }
  v4l2_pix_format& pix = format.fmt.pix;
  // or drivers take no notice of what follows it
  pix.priv = V4L2_PIX_FMT_PRIV_MAGIC;
  pix.width = numbers.Unsigned32(kWidth);
  pix.height = numbers.Unsigned32(kHeight);
  pix.pixelformat = numbers.Unsigned32(kPixelFormat);
  pix.field = numbers.Unsigned32(kField);
  pix.colorspace = numbers.Unsigned32(kColorspace);
  pix.ycbcr_enc = numbers.Unsigned32(kYcbcr);
  pix.quantization = numbers.Unsigned32(kQuantization);
  pix.xfer_func = numbers.Unsigned32(kTransfer);
  pix.flags = numbers.Unsigned32(kFlags);
  if (planes == 0) return;
  pix.bytesperline = numbers.Unsigned32(kPlanes);
  pix.sizeimage = numbers.Unsigned32(kPlanes + 1);
}

template <typename Pix>
void WritePicture(Numbers& numbers, const Pix& pix) {
  numbers.Set(kWidth, pix.width);
  numbers.Set(kHeight, pix.height);
  numbers.Set(kPixelFormat, pix.pixelformat);
  numbers.Set(kField, pix.field);
  numbers.Set(kColorspace, pix.colorspace);
  numbers.Set(kYcbcr, pix.ycbcr_enc);
  numbers.Set(kQuantization, pix.quantization);
  numbers.Set(kTransfer, pix.xfer_func);
  numbers.Set(kFlags, pix.flags);
}

void WriteFormat(Numbers& numbers, const v4l2_format& format) {
  if (!IsMultiplanar(format.type)) {
    WritePicture(numbers, format.fmt.pix);
    numbers.Set(kPlaneCount, 1);
    numbers.Set(kPlanes, format.fmt.pix.bytesperline);
    numbers.Set(kPlanes + 1, format.fmt.pix.sizeimage);
    return;
  }
  const v4l2_pix_format_mplane& pix = format.fmt.pix_mp;
  WritePicture(numbers, pix);
  const size_t planes = std::min<size_t>(pix.num_planes, VIDEO_MAX_PLANES);
  numbers.Set(kPlaneCount, static_cast<double>(planes));
  for (size_t i = 0; i < planes; i++) {
    numbers.Set(kPlanes + 2 * i, pix.plane_fmt[i].bytesperline);
    numbers.Set(kPlanes + 2 * i + 1, pix.plane_fmt[i].sizeimage);
  }
}

// v4l2Format(device, how, numbers): `how` is 0 to get, 1 to try, 2 to set; fills in what the driver says
Napi::Value Format(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  const uint64_t how = arguments.Unsigned(1, 2);
  Numbers numbers(info, 2, kFormatNumbers);
  v4l2_format format = {};
  format.type = numbers.Unsigned32(kType);
  if (!arguments.Ok() || !numbers.Ok() || !IsVideo(format.type)) return Result(env, -EINVAL);
  if (how != 0) ReadFormat(numbers, format);
  const int fd = VideoDevice(info, arguments, handle);
  if (!numbers.Ok()) return Result(env, -EINVAL);
  constexpr unsigned long requests[] = {VIDIOC_G_FMT, VIDIOC_TRY_FMT, VIDIOC_S_FMT};
  const int error = fd < 0 ? fd : Ioctl(fd, requests[how], &format);
  if (error == 0) WriteFormat(numbers, format);
  return Result(env, error);
}

// v4l2Interval(device, type, numerator, denominator): seconds from a frame to the next, as the driver has them, or
// -errno; a denominator of 0 sets nothing
Napi::Value Interval(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_streamparm data = {};
  data.type = arguments.Unsigned32(1);
  const uint32_t numerator = arguments.Unsigned32(2);
  const uint32_t denominator = arguments.Unsigned32(3);
  const int fd = VideoDevice(info, arguments, handle);
  if (fd < 0) return Result(env, fd);
  if (!IsVideo(data.type)) return Result(env, -EINVAL);
  int error = Ioctl(fd, VIDIOC_G_PARM, &data);
  const bool output = V4L2_TYPE_IS_OUTPUT(data.type);
  v4l2_fract& interval = output ? data.parm.output.timeperframe : data.parm.capture.timeperframe;
  const uint32_t can = output ? data.parm.output.capability : data.parm.capture.capability;
  if (error == 0 && denominator != 0) {
    if ((can & V4L2_CAP_TIMEPERFRAME) == 0) return Result(env, -ENOTTY);
    interval = {numerator, denominator};
    error = Ioctl(fd, VIDIOC_S_PARM, &data);
  }
  if (error != 0) return Result(env, error);
  Napi::Object found = Napi::Object::New(env);
  found.Set("numerator", interval.numerator);
  found.Set("denominator", interval.denominator);
  return found;
}

// v4l2EnumInput(device, output, index): {name, type, status} or -errno
Napi::Value EnumInput(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  const bool output = arguments.Boolean(1);
  const uint32_t index = arguments.Unsigned32(2);
  const int fd = VideoDevice(info, arguments, handle);
  if (fd < 0) return Result(env, fd);
  v4l2_input in = {};
  v4l2_output out = {};
  in.index = out.index = index;
  const int error = output ? Ioctl(fd, VIDIOC_ENUMOUTPUT, &out) : Ioctl(fd, VIDIOC_ENUMINPUT, &in);
  if (error != 0) return Result(env, error);
  Napi::Object found = Napi::Object::New(env);
  found.Set("name", output ? Text(out.name) : Text(in.name));
  found.Set("type", output ? out.type : in.type);
  found.Set("status", output ? 0 : in.status);
  return found;
}

// v4l2Input(device, output, index): the one in use; index -1 sets none
Napi::Value Input(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  const bool output = arguments.Boolean(1);
  int index = arguments.Signed(2);
  const int fd = VideoDevice(info, arguments, handle);
  if (fd < 0) return Result(env, fd);
  const unsigned long get = output ? VIDIOC_G_OUTPUT : VIDIOC_G_INPUT;
  const unsigned long set = output ? VIDIOC_S_OUTPUT : VIDIOC_S_INPUT;
  const int error = Ioctl(fd, index < 0 ? get : set, &index);
  return Result(env, error != 0 ? error : index);
}

// v4l2Selection(device, type, target): {left, top, width, height} or -errno
Napi::Value Selection(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint64_t handle = arguments.Unsigned(0);
  v4l2_selection data = {};
  data.type = arguments.Unsigned32(1);
  data.target = arguments.Unsigned32(2);
  const int fd = VideoDevice(info, arguments, handle);
  const int error = fd < 0 ? fd : Ioctl(fd, VIDIOC_G_SELECTION, &data);
  if (error != 0) return Result(env, error);
  Napi::Object found = Napi::Object::New(env);
  found.Set("left", data.r.left);
  found.Set("top", data.r.top);
  found.Set("width", data.r.width);
  found.Set("height", data.r.height);
  return found;
}

}  // namespace

void RegisterV4l2Device(Napi::Env env, Napi::Object exports) {
  Register<Capability>(env, exports, "v4l2Capability");
  Register<EnumFormat>(env, exports, "v4l2EnumFormat");
  Register<EnumSize>(env, exports, "v4l2EnumSize");
  Register<EnumInterval>(env, exports, "v4l2EnumInterval");
  Register<Format>(env, exports, "v4l2Format");
  Register<Interval>(env, exports, "v4l2Interval");
  Register<EnumInput>(env, exports, "v4l2EnumInput");
  Register<Input>(env, exports, "v4l2Input");
  Register<Selection>(env, exports, "v4l2Selection");
}

}  // namespace dmabuf
