// SPDX-License-Identifier: MIT
// Fences as descriptors (linux/sync_file.h).
#include <linux/sync_file.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// Device and inode tell anonymous files from others, and not from each other.
bool IsSyncFile(int fd) {
  static constexpr char kTarget[] = "anon_inode:sync_file";
  char target[sizeof(kTarget)];
  const ssize_t length = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof(target));
  return length == sizeof(kTarget) - 1 && std::memcmp(target, kTarget, sizeof(kTarget) - 1) == 0;
}

// syncFileStatus(file): {status}: 0 active, 1 signalled, or the error its device ended with;
// -ENOTTY where it is none
Napi::Value Status(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = info.Environment().Fd(arguments.Unsigned(0));
  if (fd < 0) return Result(env, fd);
  if (!IsSyncFile(fd)) return Result(env, -ENOTTY);
  sync_file_info data = {};
  const int error = Ioctl(fd, SYNC_IOC_FILE_INFO, &data);
  if (error < 0) return Result(env, error);
  Napi::Object result = Napi::Object::New(env);
  result.Set("status", static_cast<double>(data.status));
  return result;
}

}  // namespace

void RegisterSyncFile(Napi::Env env, Napi::Object exports) {
  Register<Status>(env, exports, "syncFileStatus");
}

}  // namespace dmabuf
