// SPDX-License-Identifier: MIT
// /dev/udmabuf: a memfd made a dma-buf (linux/udmabuf.h).
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// The dma-buf has its own reference on every page: the memfd is not needed afterwards. Its pages
// come from the device, which zeroes them: those that fallocate reserves may hold anything.
int Create(int device, uint64_t size, UniqueFd& result) {
  const UniqueFd memfd(memfd_create("udmabuf", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (memfd.Get() < 0) return errno;
  if (ftruncate(memfd.Get(), static_cast<off_t>(size)) != 0) return errno;
  if (fcntl(memfd.Get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) return errno;
  udmabuf_create data = {};
  data.memfd = static_cast<uint32_t>(memfd.Get());
  data.flags = UDMABUF_FLAGS_CLOEXEC;
  data.size = size;
  const int fd = IoctlValue(device, UDMABUF_CREATE, &data);
  if (fd < 0) return -fd;
  result = UniqueFd(fd);
  return 0;
}

// udmabufAlloc(device, size); size is in whole pages
AllocationJob ParseAlloc(const Call& info, Allocation& allocation) {
  Arguments arguments(info);
  AllocationJob job;
  ParseDevice(info, arguments, job, allocation);
  const uint64_t size = arguments.Unsigned(1);
  if (!arguments.Ok()) allocation.error = EINVAL;
  job.run = [size](int fd, Allocation& result) { result.error = Create(fd, size, result.fd); };
  return job;
}

}  // namespace

void RegisterUdmabuf(Napi::Env env, Napi::Object exports) {
  Register<AllocateAsync<ParseAlloc>>(env, exports, "udmabufAlloc");
  Register<AllocateSync<ParseAlloc>>(env, exports, "udmabufAllocSync");
}

}  // namespace dmabuf
