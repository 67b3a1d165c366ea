// SPDX-License-Identifier: MIT
// Memory of the kernel's page cache behind a descriptor: no DMA memory.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// A signal makes the kernel give back what one fallocate got: large ones would never end
// under a profiler's timer.
constexpr off_t kReserveBytes = 1 << 20;

int Create(const std::string& name, off_t size, UniqueFd& result) {
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd.Get() < 0) return errno;
  // Reserve the pages now: running out of them at a later touch would be a signal.
  for (off_t offset = 0; offset < size;) {
    const off_t length = std::min(kReserveBytes, size - offset);
    if (fallocate(fd.Get(), 0, offset, length) == 0) {
      offset += length;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  if (fcntl(fd.Get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) return errno;
  result = std::move(fd);
  return 0;
}

// memfdAlloc(size, name); size is in whole pages
AllocationJob ParseAlloc(const Call& info, Allocation& allocation) {
  Arguments arguments(info);
  AllocationJob job;
  const uint64_t size = arguments.Unsigned(0);
  const std::string name = arguments.String(1);
  if (!arguments.Ok()) allocation.error = EINVAL;
  job.run = [size, name](int, Allocation& result) {
    result.error = Create(name, static_cast<off_t>(size), result.fd);
  };
  return job;
}

}  // namespace

void RegisterMemfd(Napi::Env env, Napi::Object exports) {
  Register<AllocateAsync<ParseAlloc>>(env, exports, "memfdAlloc");
  Register<AllocateSync<ParseAlloc>>(env, exports, "memfdAllocSync");
}

}  // namespace dmabuf
