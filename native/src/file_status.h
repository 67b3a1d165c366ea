// SPDX-License-Identifier: MIT
// What fstat(2) says of a file, as far as the bridge asks.
#pragma once

#include <cstdint>

namespace dmabuf {

struct FileStatus {
  uint64_t device;
  uint64_t inode;
  uint32_t mode;
  // of a device, as the kernel encodes it
  uint64_t number;
  // bytes
  int64_t size;
};

// 0 or -errno
int StatusOf(int fd, FileStatus& status);

}  // namespace dmabuf
