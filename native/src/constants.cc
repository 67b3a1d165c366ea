// SPDX-License-Identifier: MIT
// Numbers TypeScript uses, from the headers that define them.
#include <dmabuf/ion.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>

#include "bindings.h"
#include "socket.h"

// linux/dma-buf.h has it only inside the kernel, see DMA_BUF_NAME_LEN there
static constexpr int kDmaBufNameLength = 32;

namespace dmabuf {

void RegisterConstants(Napi::Env env, Napi::Object exports) {
  Napi::Object constants = Napi::Object::New(env);
  const auto set = [&](const char* name, double value) { constants.Set(name, value); };
  set("O_RDONLY", O_RDONLY);
  set("O_WRONLY", O_WRONLY);
  set("O_RDWR", O_RDWR);
  set("F_SEAL_SHRINK", F_SEAL_SHRINK);
  set("F_SEAL_GROW", F_SEAL_GROW);
  set("F_SEAL_WRITE", F_SEAL_WRITE);
  set("F_SEAL_FUTURE_WRITE", F_SEAL_FUTURE_WRITE);
  set("PAGE_SIZE", static_cast<double>(sysconf(_SC_PAGESIZE)));
  set("DMA_BUF_NAME_LEN", kDmaBufNameLength);
  set("DMA_BUF_SYNC_READ", DMA_BUF_SYNC_READ);
  set("DMA_BUF_SYNC_WRITE", DMA_BUF_SYNC_WRITE);
  set("DMA_BUF_SYNC_START", DMA_BUF_SYNC_START);
  set("DMA_BUF_SYNC_END", DMA_BUF_SYNC_END);
  set("ION_HEAP_TYPE_SYSTEM", ION_HEAP_TYPE_SYSTEM);
  set("ION_HEAP_TYPE_SYSTEM_CONTIG", ION_HEAP_TYPE_SYSTEM_CONTIG);
  set("ION_HEAP_TYPE_CARVEOUT", ION_HEAP_TYPE_CARVEOUT);
  set("ION_HEAP_TYPE_CHUNK", ION_HEAP_TYPE_CHUNK);
  set("ION_HEAP_TYPE_DMA", ION_HEAP_TYPE_DMA);
  set("ION_HEAP_TYPE_CUSTOM", ION_HEAP_TYPE_CUSTOM);
  set("ION_HEAP_TYPE_IOMMU", ION_HEAP_TYPE_IOMMU);
  set("ION_HEAP_TYPE_PROTECTED", ION_HEAP_TYPE_PROTECTED);
  set("UNIX_PATH_MAX", sizeof(sockaddr_un::sun_path));
  set("SOCK_STREAM", SOCK_STREAM);
  set("SOCK_SEQPACKET", SOCK_SEQPACKET);
  set("SCM_MAX_FD", kMaxFdsPerMessage);
  set("ETOOMANYREFS", ETOOMANYREFS);
  set("UV_READABLE", UV_READABLE);
  set("UV_WRITABLE", UV_WRITABLE);
  set("UV_DISCONNECT", UV_DISCONNECT);
  set("UV_PRIORITIZED", UV_PRIORITIZED);
  exports.Set("constants", constants);
}

}  // namespace dmabuf
