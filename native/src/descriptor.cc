// SPDX-License-Identifier: MIT
#include "descriptor.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "arguments.h"
#include "bindings.h"
#include "environment.h"

namespace dmabuf {

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) close(fd_);
}

std::shared_ptr<Descriptor> Descriptor::Adopt(UniqueFd& fd) {
  FileStatus status;
  if (StatusOf(fd.Get(), status) != 0) return nullptr;
  return std::shared_ptr<Descriptor>(new Descriptor(fd.Release(), status));
}

Descriptor::~Descriptor() { Close(); }

int Descriptor::Fd(FileStatus* status) const {
  FileStatus own;
  FileStatus& found = status != nullptr ? *status : own;
  if (fd_ < 0) return -ESTALE;
  const int error = StatusOf(fd_, found);
  if (error != 0) return error == -EBADF ? -ESTALE : error;
  return found.device == device_ && found.inode == inode_ ? fd_ : -ESTALE;
}

int Descriptor::Close() {
  const int fd = Release();
  if (fd < 0) return fd;
  // Linux frees the number whatever close() says, EINTR included.
  return close(fd) == 0 || errno == EINTR ? 0 : -errno;
}

int Descriptor::Release() {
  const int fd = Fd();
  fd_ = -1;
  return fd;
}

namespace {

// What a descriptor refers to, as far as TypeScript tells them apart.
enum class FileKind { kOther = 0, kDmaBuf = 1, kMemfd = 2 };

Napi::Value Open(const Call& info) {
  Arguments arguments(info);
  const std::string path = arguments.String(0);
  const int flags = arguments.Signed(1);
  if (!arguments.Ok()) return Result(info.Env(), -EINVAL);
  int fd;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  } while (fd < 0 && errno == EINTR);
  return info.Environment().Adopt(info.Env(), UniqueFd(fd));
}

// adopt(fd): the number belongs to the handle from now on, unless this fails; -EBUSY
// where it belongs to one already
Napi::Value Adopt(const Call& info) {
  Arguments arguments(info);
  const int number = arguments.Signed(0);
  if (!arguments.Ok()) return Result(info.Env(), -EINVAL);
  // inherited descriptors lack it
  if (fcntl(number, F_SETFD, FD_CLOEXEC) < 0) return Result(info.Env(), -errno);
  if (info.Environment().Owns(number)) return Result(info.Env(), -EBUSY);
  return info.Environment().Adopt(info.Env(), UniqueFd(number));
}

// adoptNew(fd): the same for one the kernel has just given, which so belongs to nobody else
Napi::Value AdoptNew(const Call& info) {
  Arguments arguments(info);
  const int number = arguments.Signed(0);
  if (!arguments.Ok()) return Result(info.Env(), -EINVAL);
  Environment& environment = info.Environment();
  auto& unclaimed = environment.unclaimed;
  unclaimed.erase(std::remove(unclaimed.begin(), unclaimed.end(), number), unclaimed.end());
  return environment.Adopt(info.Env(), UniqueFd(number));
}

Napi::Value Duplicate(const Call& info) {
  Arguments arguments(info);
  const int fd = info.Environment().Fd(arguments.Unsigned(0));
  if (fd < 0) return Result(info.Env(), fd);
  return info.Environment().Adopt(info.Env(), UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0)));
}

// duplicateFd(fd): the same for a number of the caller's, which stays the caller's
Napi::Value DuplicateFd(const Call& info) {
  Arguments arguments(info);
  const int number = arguments.Signed(0);
  if (!arguments.Ok()) return Result(info.Env(), -EINVAL);
  return info.Environment().Adopt(info.Env(), UniqueFd(fcntl(number, F_DUPFD_CLOEXEC, 0)));
}

Napi::Value Fd(const Call& info) {
  Arguments arguments(info);
  return Result(info.Env(), info.Environment().Fd(arguments.Unsigned(0)));
}

// inode(handle): of what it was made for, without asking the kernel
Napi::Value Inode(const Call& info) {
  Arguments arguments(info);
  const auto descriptor = info.Environment().Find(arguments.Unsigned(0));
  if (!descriptor) return Result(info.Env(), -EBADF);
  return Napi::Number::New(info.Env(), static_cast<double>(descriptor->Inode()));
}

Napi::Value Close(const Call& info) {
  Arguments arguments(info);
  const auto descriptor = info.Environment().Forget(arguments.Unsigned(0));
  if (!descriptor) return Result(info.Env(), -EBADF);
  // An allocation under way on the thread pool may hold it too: then that one closes it.
  if (descriptor.use_count() > 1) return Result(info.Env(), 0);
  return Result(info.Env(), descriptor->Close());
}

Napi::Value Release(const Call& info) {
  Arguments arguments(info);
  const auto descriptor = info.Environment().Forget(arguments.Unsigned(0));
  return Result(info.Env(), descriptor ? descriptor->Release() : -EBADF);
}

// describe(file): fills the environment's numbers, which costs less than an object
Napi::Value Describe(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  FileStatus status;
  struct statfs filesystem;
  const int fd = info.Environment().Fd(arguments.Unsigned(0), &status);
  if (fd < 0) return Result(env, fd);
  if (fstatfs(fd, &filesystem) != 0) return Result(env, -errno);
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return Result(env, -errno);

  FileKind kind = FileKind::kOther;
  int64_t size = status.size;
  int seals = 0;
  if (filesystem.f_type == DMA_BUF_MAGIC) {
    kind = FileKind::kDmaBuf;
    // the size dma-buf documents; SEEK_END does not move its position
    size = lseek(fd, 0, SEEK_END);
    if (size < 0) return Result(env, -errno);
  } else if (filesystem.f_type == TMPFS_MAGIC && S_ISREG(status.mode) && (seals = fcntl(fd, F_GET_SEALS)) >= 0) {
    kind = FileKind::kMemfd;
  }
  const bool is_device = S_ISCHR(status.mode);
  const double fields[] = {
      static_cast<double>(fd),
      static_cast<double>(kind),
      static_cast<double>(size),
      static_cast<double>(status.inode),
      static_cast<double>(flags & O_ACCMODE),
      static_cast<double>(seals < 0 ? 0 : seals),
      is_device ? static_cast<double>(major(status.number)) : -1,
      is_device ? static_cast<double>(minor(status.number)) : -1,
  };
  std::copy(std::begin(fields), std::end(fields), info.Environment().numbers);
  return Result(env, 0);
}

}  // namespace

void RegisterDescriptor(Napi::Env env, Napi::Object exports) {
  Register<Open>(env, exports, "open");
  Register<Adopt>(env, exports, "adopt");
  Register<AdoptNew>(env, exports, "adoptNew");
  Register<Duplicate>(env, exports, "duplicate");
  Register<DuplicateFd>(env, exports, "duplicateFd");
  Register<Fd>(env, exports, "fd");
  Register<Inode>(env, exports, "inode");
  Register<Close>(env, exports, "close");
  Register<Release>(env, exports, "release");
  Register<Describe>(env, exports, "describe");
}

}  // namespace dmabuf
