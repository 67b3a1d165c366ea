// SPDX-License-Identifier: MIT
// /dev/ion, the interface of Linux 4.12 to 5.10.
#include <dmabuf/ion.h>

#include <string>
#include <vector>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// More heaps than a mask has bits cannot be named anyway.
constexpr uint32_t kMaxHeaps = 64;

// ionAlloc(device, length, heapMask, cached)
AllocationJob ParseAlloc(const Call& info, Allocation& allocation) {
  Arguments arguments(info);
  AllocationJob job;
  ParseDevice(info, arguments, job, allocation);
  const uint64_t length = arguments.Unsigned(1);
  const uint32_t mask = arguments.Unsigned32(2);
  const bool cached = arguments.Boolean(3);
  if (!arguments.Ok()) allocation.error = EINVAL;
  job.run = [length, mask, cached](int fd, Allocation& result) {
    ion_allocation_data data = {};
    data.len = length;
    data.heap_id_mask = mask;
    data.flags = cached ? ION_FLAG_CACHED : 0;
    result.error = -Ioctl(fd, ION_IOC_ALLOC, &data);
    if (result.error == 0) result.fd = UniqueFd(static_cast<int>(data.fd));
  };
  return job;
}

// ionHeaps(device): [{name, type, id}] or -errno
Napi::Value Heaps(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = info.Environment().Fd(arguments.Unsigned(0));
  if (fd < 0) return Result(env, fd);
  ion_heap_query query = {};
  int error = Ioctl(fd, ION_IOC_HEAP_QUERY, &query);
  if (error != 0) return Result(env, error);
  std::vector<ion_heap_data> heaps(query.cnt < kMaxHeaps ? query.cnt : kMaxHeaps);
  if (!heaps.empty()) {
    query = {};
    query.cnt = static_cast<uint32_t>(heaps.size());
    query.heaps = reinterpret_cast<uintptr_t>(heaps.data());
    error = Ioctl(fd, ION_IOC_HEAP_QUERY, &query);
    if (error != 0) return Result(env, error);
    if (query.cnt < heaps.size()) heaps.resize(query.cnt);
  }
  Napi::Array list = Napi::Array::New(env, heaps.size());
  for (uint32_t i = 0; i < heaps.size(); i++) {
    heaps[i].name[ION_MAX_HEAP_NAME - 1] = '\0';
    Napi::Object heap = Napi::Object::New(env);
    heap.Set("name", static_cast<const char*>(heaps[i].name));
    heap.Set("type", heaps[i].type);
    heap.Set("id", heaps[i].heap_id);
    list.Set(i, heap);
  }
  return list;
}

}  // namespace

void RegisterIon(Napi::Env env, Napi::Object exports) {
  Register<AllocateAsync<ParseAlloc>>(env, exports, "ionAlloc");
  Register<AllocateSync<ParseAlloc>>(env, exports, "ionAllocSync");
  Register<Heaps>(env, exports, "ionHeaps");
}

}  // namespace dmabuf
