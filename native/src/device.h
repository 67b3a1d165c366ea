// SPDX-License-Identifier: MIT
// What the calls to one kind of device have in common.
#pragma once

#include <sys/ioctl.h>

#include <cerrno>

#include "allocation.h"
#include "arguments.h"
#include "environment.h"

namespace dmabuf {

// 0 or -errno, a signal does not end it.
inline int Ioctl(int fd, unsigned long request, void* argument) {
  int result;
  do {
    result = ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : 0;
}

// The device of argument 0, its number checked, into job; an error into allocation.
inline void ParseDevice(const Napi::CallbackInfo& info, Arguments& arguments, AllocationJob& job,
                        Allocation& allocation) {
  job.device = Environment::Of(info.Env()).Find(arguments.Unsigned(0));
  job.fd = job.device ? job.device->Fd() : -EBADF;
  if (job.fd < 0) allocation.error = -job.fd;
}

}  // namespace dmabuf
