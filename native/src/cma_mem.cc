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
AllocationJob ParseAlloc(const Call& info, Allocation& allocation) {
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
AllocationJob ParseAllocate(const Call& info, Allocation& allocation) {
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
Napi::Value WithRegion(const Call& info, Body body) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int device = info.Environment().Fd(arguments.Unsigned(0));
  cmamem_info data = {};
  data.id = arguments.Unsigned32(1);
  if (!arguments.Ok()) return Result(env, -EINVAL);
  if (device < 0) return Result(env, device);
  return body(env, device, data, arguments);
}

// cmaRegion(device, id): where it is
Napi::Value Region(const Call& info) {
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
Napi::Value Size(const Call& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& data, Arguments&) {
    const int error = Ioctl(device, CMEM_GET_SIZE, &data);
    return error == 0 ? Napi::Value(Napi::Number::New(env, data.len)) : Result(env, error);
  });
}

// cmaUnmap(device, id)
Napi::Value Unmap(const Call& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& data, Arguments&) {
    return Result(env, Ioctl(device, CMEM_UNMAP, &data));
  });
}

// cmaConnect(device, fd)
Napi::Value Connect(const Call& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& data, Arguments&) {
    return Result(env, Ioctl(device, CMEM_CONNECT, &data));
  });
}

// cmaFlush(device, id, offset, length)
Napi::Value Flush(const Call& info) {
  return WithRegion(info, [](Napi::Env env, int device, cmamem_info& data, Arguments& arguments) {
    data.offset = arguments.Unsigned32(2);
    data.len = arguments.Unsigned32(3);
    return Result(env, arguments.Ok() ? Ioctl(device, CMEM_CACHE_FLUSH, &data) : -EINVAL);
  });
}

// cmaExport(device, id, readonly): a region as a dma-buf
Napi::Value Export(const Call& info) {
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
Napi::Value Totals(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int device = info.Environment().Fd(arguments.Unsigned(0));
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
  Register<AllocateAsync<ParseAlloc>>(env, exports, "cmaAlloc");
  Register<AllocateSync<ParseAlloc>>(env, exports, "cmaAllocSync");
  Register<AllocateAsync<ParseAllocate>>(env, exports, "cmaAllocate");
  Register<AllocateSync<ParseAllocate>>(env, exports, "cmaAllocateSync");
  Register<Export>(env, exports, "cmaExport");
  Register<Region>(env, exports, "cmaRegion");
  Register<Size>(env, exports, "cmaSize");
  Register<Unmap>(env, exports, "cmaUnmap");
  Register<Connect>(env, exports, "cmaConnect");
  Register<Flush>(env, exports, "cmaFlush");
  Register<Totals>(env, exports, "cmaTotals");
}

}  // namespace dmabuf
