// SPDX-License-Identifier: MIT
// The kernel is asked itself: the C library's fstat() is a statx() of an empty path on 32-bit machines, and a
// newfstatat() of one on others, which kernels look up; that takes them twice as long. The kernel's header of the
// struct and the library's do not go together, so that nothing else is included here that needs one.
#include "file_status.h"

#include <asm/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace dmabuf {
namespace {

#ifdef SYS_fstat64
using KernelStat = struct stat64;
constexpr long kCall = SYS_fstat64;
#else
using KernelStat = struct stat;
constexpr long kCall = SYS_fstat;
#endif

}  // namespace

int StatusOf(int fd, FileStatus& status) {
  KernelStat found;
  if (syscall(kCall, fd, &found) != 0) return -errno;
  status.device = found.st_dev;
  status.inode = found.st_ino;
  status.mode = found.st_mode;
  status.number = found.st_rdev;
  status.size = found.st_size;
  return 0;
}

}  // namespace dmabuf
