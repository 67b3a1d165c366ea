// SPDX-License-Identifier: MIT
// What the calls to V4L2 devices (linux/videodev2.h) have in common.
#pragma once

#include <linux/videodev2.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "device.h"

namespace dmabuf {

// The checked number of the device of argument 0, or -errno: -EINVAL where another argument is wrong.
inline int VideoDevice(const Call& info, const Arguments& arguments, uint64_t handle) {
  const int fd = info.Environment().Fd(handle);
  return arguments.Ok() ? fd : -EINVAL;
}

inline bool IsMultiplanar(uint32_t type) {
  return type == V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE || type == V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE;
}

// Pictures; other types of buffers have other formats.
inline bool IsVideo(uint32_t type) {
  return type == V4L2_BUF_TYPE_VIDEO_CAPTURE || type == V4L2_BUF_TYPE_VIDEO_OUTPUT || IsMultiplanar(type);
}

// A string of a driver's, whatever it has forgotten at its end.
template <typename Char, size_t size>
std::string Text(const Char (&field)[size]) {
  const char* const begin = reinterpret_cast<const char*>(field);
  return std::string(begin, strnlen(begin, size));
}

}  // namespace dmabuf
