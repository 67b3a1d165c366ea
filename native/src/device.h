// SPDX-License-Identifier: MIT
// What the calls to one kind of device have in common.
#pragma once

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "allocation.h"
#include "arguments.h"
#include "environment.h"

namespace dmabuf {

// What the device answers or -errno, a signal does not end it.
inline int IoctlValue(int fd, unsigned long request, void* argument) {
  int result;
  do {
    result = ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

// The same where a device has nothing to answer: 0 or -errno.
inline int Ioctl(int fd, unsigned long request, void* argument) {
  return std::min(IoctlValue(fd, request, argument), 0);
}

// The device of argument 0, its number checked, into job; an error into allocation.
inline void ParseDevice(const Call& info, Arguments& arguments, AllocationJob& job,
                        Allocation& allocation) {
  job.device = info.Environment().Find(arguments.Unsigned(0));
  job.fd = job.device ? job.device->Fd() : -ESTALE;
  if (job.fd < 0) allocation.error = -job.fd;
}

}  // namespace dmabuf
