// SPDX-License-Identifier: MIT
// What every dma-buf takes, whoever exported it (linux/dma-buf.h).
#include <linux/dma-buf.h>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// sync(buffer, flags): one half of a bracket
Napi::Value Sync(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = Environment::Of(env).Fd(arguments.Unsigned(0));
  dma_buf_sync data = {};
  data.flags = arguments.Unsigned(1);
  if (!arguments.Ok()) return Result(env, -EINVAL);
  if (fd < 0) return Result(env, fd);
  int error;
  do {
    error = Ioctl(fd, DMA_BUF_IOCTL_SYNC, &data);
  } while (error == -EAGAIN);
  return Result(env, error);
}

// setName(buffer, name)
Napi::Value SetName(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = Environment::Of(env).Fd(arguments.Unsigned(0));
  std::string name = arguments.String(1);
  if (!arguments.Ok()) return Result(env, -EINVAL);
  if (fd < 0) return Result(env, fd);
  return Result(env, Ioctl(fd, DMA_BUF_SET_NAME, name.data()));
}

}  // namespace

void RegisterDmaBuf(Napi::Env env, Napi::Object exports) {
  exports.Set("sync", Napi::Function::New<Sync>(env, "sync"));
  exports.Set("setName", Napi::Function::New<SetName>(env, "setName"));
}

}  // namespace dmabuf
