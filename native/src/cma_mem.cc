// SPDX-License-Identifier: MIT
// /dev/cma_mem: regions, and dma-bufs of contiguous memory.
#include <dmabuf/cma_mem.h>
#include <fcntl.h>

#include <string>
#include <utility>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// cmaAlloc(device, length, cached): a dma-buf
AllocationJob ParseAlloc(const Napi::CallbackInfo& info, Allocation& allocation) {
  Arguments arguments(info);
  AllocationJob job;
  ParseDevice(info, arguments, job, allocation);
  const uint64_t length = arguments.Unsigned(1);
  const bool cached = arguments.Boolean(2);
  if (!arguments.Ok()) allocation.error = EINVAL;
  job.run = [length, cached](int fd, Allocation& result) {
    cmem_alloc data = {};
    data.len = length;
    data.flags = cached ? CMEM_FLAG_CACHED : 0;
    result.error = -Ioctl(fd, CMEM_IOC_ALLOC, &data);
    if (result.error == 0) result.fd = UniqueFd(data.fd);
  };
  return job;
}

// cmaAllocate(device, length, cached, name): a region; an empty name is none
AllocationJob ParseAllocate(const Napi::CallbackInfo& info, Allocation& allocation) {
  Arguments arguments(info);
  AllocationJob job;
  ParseDevice(info, arguments, job, allocation);
  const uint32_t length = arguments.Unsigned32(1);
  const bool cached = arguments.Boolean(2);
  std::string name = arguments.String(3);
  if (!arguments.Ok()) allocation.error = EINVAL;
  job.run = [length, cached, name = std::move(name)](int fd, Allocation& result) mutable {
    cmamem_info data = {};
    data.name = name.empty() ? nullptr : name.data();
    data.is_cache = cached ? 1 : 0;
    data.len = length;
    result.error = -Ioctl(fd, CMEM_ALLOCATE, &data);
    if (result.error == 0) result.region = data;
  };
  return job;
}

// cmaExport(device, id): a region as a dma-buf
Napi::Value Export(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = Environment::Of(env).Fd(arguments.Unsigned(0));
  const uint32_t id = arguments.Unsigned32(1);
  if (!arguments.Ok()) return Result(env, -EINVAL);
  if (fd < 0) return Result(env, fd);
  cmem_export data = {};
  data.id = id;
  data.fd_flags = O_RDWR | O_CLOEXEC;
  const int error = Ioctl(fd, CMEM_IOC_EXPORT, &data);
  if (error != 0) return Result(env, error);
  return Environment::Of(env).Adopt(env, UniqueFd(data.fd));
}

}  // namespace

void RegisterCmaMem(Napi::Env env, Napi::Object exports) {
  exports.Set("cmaAlloc", Napi::Function::New<AllocateAsync<ParseAlloc>>(env, "cmaAlloc"));
  exports.Set("cmaAllocSync", Napi::Function::New<AllocateSync<ParseAlloc>>(env, "cmaAllocSync"));
  exports.Set("cmaAllocate", Napi::Function::New<AllocateAsync<ParseAllocate>>(env, "cmaAllocate"));
  exports.Set("cmaAllocateSync", Napi::Function::New<AllocateSync<ParseAllocate>>(env, "cmaAllocateSync"));
  exports.Set("cmaExport", Napi::Function::New<Export>(env, "cmaExport"));
}

}  // namespace dmabuf
