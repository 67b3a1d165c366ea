// SPDX-License-Identifier: MIT
// /dev/dma_heap/*, the kernel's own interface (linux/dma-heap.h).
#include <fcntl.h>
#include <linux/dma-heap.h>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// dmaHeapAlloc(device, length)
AllocationJob ParseAlloc(const Call& info, Allocation& allocation) {
  Arguments arguments(info);
  AllocationJob job;
  ParseDevice(info, arguments, job, allocation);
  const uint64_t length = arguments.Unsigned(1);
  if (!arguments.Ok()) allocation.error = EINVAL;
  job.run = [length](int fd, Allocation& result) {
    dma_heap_allocation_data data = {};
    data.len = length;
    data.fd_flags = O_RDWR | O_CLOEXEC;
    result.error = -Ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &data);
    if (result.error == 0) result.fd = UniqueFd(static_cast<int>(data.fd));
  };
  return job;
}

}  // namespace

void RegisterDmaHeap(Napi::Env env, Napi::Object exports) {
  Register<AllocateAsync<ParseAlloc>>(env, exports, "dmaHeapAlloc");
  Register<AllocateSync<ParseAlloc>>(env, exports, "dmaHeapAllocSync");
}

}  // namespace dmabuf
