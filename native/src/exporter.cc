// SPDX-License-Identifier: MIT
// /dev/exporter: descriptors of the one buffer it holds.
#include <dmabuf/exporter.h>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// exporterGetFd(device)
Napi::Value GetFd(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int device = info.Environment().Fd(arguments.Unsigned(0));
  if (device < 0) return Result(env, device);
  int fd = -1;
  const int error = Ioctl(device, EXPORTER_IOC_GET_FD, &fd);
  if (error != 0) return Result(env, error);
  return info.Environment().Adopt(env, UniqueFd(fd));
}

}  // namespace

void RegisterExporter(Napi::Env env, Napi::Object exports) {
  Register<GetFd>(env, exports, "exporterGetFd");
}

}  // namespace dmabuf
