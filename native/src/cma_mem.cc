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

// A call about the region of argument 1 on the device of argument 0: what `body` answers, or -errno.
template <typename Body>
Napi::Value WithRegion(const Napi::CallbackInfo& info, Body body) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int device = Environment::Of(env).Fd(arguments.Unsigned(0));
  cmamem_info data = {};
  data.id = arguments.Unsigned32(1);
  if (!arguments.Ok()) return Result(env, -EINVAL);
  if (device < 0) return Result(env, device);
  return body(env, device, data, arguments);
}

// cmaRegion(device, id): where it is
Napi::Value Region(const Napi::CallbackInfo& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& data, Arguments&) -> Napi::Value {
    int error = Ioctl(device, CMEM_MAP, &data);
    cmamem_info address = data;
    if (error == 0) error = Ioctl(device, CMEM_GET_PHYS, &address);
    if (error == -EPERM) address.phy_base = 0;
    else if (error != 0) return Result(env, error);
    data.phy_base = address.phy_base;
    return RegionObject(env, data);
  });
}

// cmaSize(device, id): its bytes, as long as there is such a region
Napi::Value Size(const Napi::CallbackInfo& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& data, Arguments&) {
    const int error = Ioctl(device, CMEM_GET_SIZE, &data);
    return error == 0 ? Napi::Value(Napi::Number::New(env, data.len)) : Result(env, error);
  });
}

// cmaUnmap(device, id)
Napi::Value Unmap(const Napi::CallbackInfo& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& data, Arguments&) {
    return Result(env, Ioctl(device, CMEM_UNMAP, &data));
  });
}

// cmaConnect(device, fd)
Napi::Value Connect(const Napi::CallbackInfo& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& data, Arguments&) {
    return Result(env, Ioctl(device, CMEM_CONNECT, &data));
  });
}

// cmaFlush(device, id, offset, length)
Napi::Value Flush(const Napi::CallbackInfo& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& data, Arguments& arguments) {
    data.offset = arguments.Unsigned32(2);
    data.len = arguments.Unsigned32(3);
    return Result(env, arguments.Ok() ? Ioctl(device, CMEM_CACHE_FLUSH, &data) : -EINVAL);
  });
}

// cmaExport(device, id, readonly): a region as a dma-buf
Napi::Value Export(const Napi::CallbackInfo& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& region, Arguments& arguments) {
    cmem_export data = {};
    data.id = region.id;
    data.fd_flags = (arguments.Boolean(2) ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    const int error = arguments.Ok() ? Ioctl(device, CMEM_IOC_EXPORT, &data) : -EINVAL;
    if (error != 0) return Result(env, error);
    return Environment::Of(env).Adopt(env, UniqueFd(data.fd));
  });
}

// cmaTotals(device)
Napi::Value Totals(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int device = Environment::Of(env).Fd(arguments.Unsigned(0));
  cmamem_info data = {};
  const int error = device < 0 ? device : Ioctl(device, CMEM_GET_TOTAL_SIZE, &data);
  if (error != 0) return Result(env, error);
  Napi::Object totals = Napi::Object::New(env);
  totals.Set("total", static_cast<double>(data.len));
  totals.Set("free", static_cast<double>(data.offset));
  return totals;
}

}  // namespace

void RegisterCmaMem(Napi::Env env, Napi::Object exports) {
  exports.Set("cmaAlloc", Napi::Function::New<AllocateAsync<ParseAlloc>>(env, "cmaAlloc"));
  exports.Set("cmaAllocSync", Napi::Function::New<AllocateSync<ParseAlloc>>(env, "cmaAllocSync"));
  exports.Set("cmaAllocate", Napi::Function::New<AllocateAsync<ParseAllocate>>(env, "cmaAllocate"));
  exports.Set("cmaAllocateSync", Napi::Function::New<AllocateSync<ParseAllocate>>(env, "cmaAllocateSync"));
  exports.Set("cmaExport", Napi::Function::New<Export>(env, "cmaExport"));
  exports.Set("cmaRegion", Napi::Function::New<Region>(env, "cmaRegion"));
  exports.Set("cmaSize", Napi::Function::New<Size>(env, "cmaSize"));
  exports.Set("cmaUnmap", Napi::Function::New<Unmap>(env, "cmaUnmap"));
  exports.Set("cmaConnect", Napi::Function::New<Connect>(env, "cmaConnect"));
  exports.Set("cmaFlush", Napi::Function::New<Flush>(env, "cmaFlush"));
  exports.Set("cmaTotals", Napi::Function::New<Totals>(env, "cmaTotals"));
}

}  // namespace dmabuf
