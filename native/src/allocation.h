// SPDX-License-Identifier: MIT
// Runs an allocation on the calling thread or on the thread pool.
#pragma once

#include <dmabuf/cma_mem.h>
#include <napi.h>

#include <functional>
#include <memory>
#include <optional>

#include "call.h"
#include "descriptor.h"

namespace dmabuf {

// What an allocation made: a descriptor, a region of /dev/cma_mem, or a handle of /dev/ion.
struct Allocation {
  int error = 0;
  UniqueFd fd;
  std::optional<cmamem_info> region;
  std::optional<int> number;
};

// Touches no JavaScript. `device` is null where the heap is no device.
struct AllocationJob {
  std::shared_ptr<Descriptor> device;
  // the number behind device, checked on the JavaScript thread
  int fd = -1;
  std::function<void(int fd, Allocation& allocation)> run;
};

// Reads the arguments of a call; an error goes into the allocation.
using AllocationParser = AllocationJob (*)(const Call& info, Allocation& allocation);

// {id, offset, length, physicalBase}
Napi::Value RegionObject(Napi::Env env, const cmamem_info& data);

// Answers a handle, a RegionObject, the number, or -errno; the asynchronous form a promise of that.
Napi::Value AllocateSync(const Call& info, AllocationParser parse);
Napi::Value AllocateAsync(const Call& info, AllocationParser parse);

template <AllocationParser parse>
Napi::Value AllocateSync(const Call& info) {
  return AllocateSync(info, parse);
}

template <AllocationParser parse>
Napi::Value AllocateAsync(const Call& info) {
  return AllocateAsync(info, parse);
}

}  // namespace dmabuf
