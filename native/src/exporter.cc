// SPDX-License-Identifier: MIT
// /dev/exporter: descriptors of the one buffer it holds.
#include <dmabuf/exporter.h>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// exporterGetFd(device)
Napi::Value GetFd(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int device = Environment::Of(env).Fd(arguments.Unsigned(0));
  if (device < 0) return Result(env, device);
  int fd = -1;
  const int error = Ioctl(device, EXPORTER_IOC_GET_FD, &fd);
  if (error != 0) return Result(env, error);
  return Environment::Of(env).Adopt(env, UniqueFd(fd));
}

}  // namespace

void RegisterExporter(Napi::Env env, Napi::Object exports) {
  exports.Set("exporterGetFd", Napi::Function::New<GetFd>(env, "exporterGetFd"));
}

}  // namespace dmabuf
