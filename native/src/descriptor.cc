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
#include <cstring>

#include "arguments.h"
#include "bindings.h"
#include "environment.h"

namespace dmabuf {

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) close(fd_);
}

std::shared_ptr<Descriptor> Descriptor::Adopt(UniqueFd& fd) {
  struct stat status;
  if (fstat(fd.Get(), &status) != 0) return nullptr;
  return std::shared_ptr<Descriptor>(new Descriptor(fd.Release(), status.st_dev, status.st_ino));
}

Descriptor::~Descriptor() { Close(); }

int Descriptor::Fd(struct stat* status) const {
  struct stat own;
  struct stat& found = status != nullptr ? *status : own;
  if (fd_ < 0) return -ESTALE;
  if (fstat(fd_, &found) != 0) return errno == EBADF ? -ESTALE : -errno;
  return found.st_dev == device_ && found.st_ino == inode_ ? fd_ : -ESTALE;
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

Napi::Value Open(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::string path = arguments.String(0);
  const int flags = arguments.Signed(1);
  if (!arguments.Ok()) return Result(info.Env(), -EINVAL);
  int fd;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  } while (fd < 0 && errno == EINTR);
  return Environment::Of(info.Env()).Adopt(info.Env(), UniqueFd(fd));
}

// adopt(fd): the number belongs to the handle from now on, unless this fails; -EBUSY
// where it belongs to one already
Napi::Value Adopt(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int number = arguments.Signed(0);
  if (!arguments.Ok()) return Result(info.Env(), -EINVAL);
  // inherited descriptors lack it
  if (fcntl(number, F_SETFD, FD_CLOEXEC) < 0) return Result(info.Env(), -errno);
  if (Environment::Of(info.Env()).Owns(number)) return Result(info.Env(), -EBUSY);
  return Environment::Of(info.Env()).Adopt(info.Env(), UniqueFd(number));
}

// adoptNew(fd): the same for one the kernel has just given, which so belongs to nobody else
Napi::Value AdoptNew(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int number = arguments.Signed(0);
  if (!arguments.Ok()) return Result(info.Env(), -EINVAL);
  Environment& environment = Environment::Of(info.Env());
  auto& unclaimed = environment.unclaimed;
  unclaimed.erase(std::remove(unclaimed.begin(), unclaimed.end(), number), unclaimed.end());
  return environment.Adopt(info.Env(), UniqueFd(number));
}

Napi::Value Duplicate(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = Environment::Of(info.Env()).Fd(arguments.Unsigned(0));
  if (fd < 0) return Result(info.Env(), fd);
  return Environment::Of(info.Env()).Adopt(info.Env(), UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0)));
}

// duplicateFd(fd): the same for a number of the caller's, which stays the caller's
Napi::Value DuplicateFd(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int number = arguments.Signed(0);
  if (!arguments.Ok()) return Result(info.Env(), -EINVAL);
  return Environment::Of(info.Env()).Adopt(info.Env(), UniqueFd(fcntl(number, F_DUPFD_CLOEXEC, 0)));
}

Napi::Value Fd(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  return Result(info.Env(), Environment::Of(info.Env()).Fd(arguments.Unsigned(0)));
}

// inode(handle): of what it was made for, without asking the kernel
Napi::Value Inode(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto descriptor = Environment::Of(info.Env()).Find(arguments.Unsigned(0));
  if (!descriptor) return Result(info.Env(), -EBADF);
  return Napi::Number::New(info.Env(), static_cast<double>(descriptor->Inode()));
}

Napi::Value Close(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto descriptor = Environment::Of(info.Env()).Forget(arguments.Unsigned(0));
  if (!descriptor) return Result(info.Env(), -EBADF);
  // An allocation under way on the thread pool may hold it too: then that one closes it.
  if (descriptor.use_count() > 1) return Result(info.Env(), 0);
  return Result(info.Env(), descriptor->Close());
}

Napi::Value Release(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto descriptor = Environment::Of(info.Env()).Forget(arguments.Unsigned(0));
  return Result(info.Env(), descriptor ? descriptor->Release() : -EBADF);
}

// describe(file, into): fills an ArrayBuffer with doubles, which costs less than an object
Napi::Value Describe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  void* into = nullptr;
  size_t bytes = 0;
  if (napi_get_arraybuffer_info(env, info[1], &into, &bytes) != napi_ok) return Result(env, -EINVAL);
  struct stat status;
  struct statfs filesystem;
  const int fd = Environment::Of(env).Fd(arguments.Unsigned(0), &status);
  if (fd < 0) return Result(env, fd);
  if (fstatfs(fd, &filesystem) != 0) return Result(env, -errno);
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return Result(env, -errno);

  FileKind kind = FileKind::kOther;
  off_t size = status.st_size;
  int seals = 0;
  if (filesystem.f_type == DMA_BUF_MAGIC) {
    kind = FileKind::kDmaBuf;
    // the size dma-buf documents; SEEK_END does not move its position
    size = lseek(fd, 0, SEEK_END);
    if (size < 0) return Result(env, -errno);
  } else if (filesystem.f_type == TMPFS_MAGIC && S_ISREG(status.st_mode) && (seals = fcntl(fd, F_GET_SEALS)) >= 0) {
    kind = FileKind::kMemfd;
  }
  const bool is_device = S_ISCHR(status.st_mode);
  const double fields[] = {
      static_cast<double>(fd),
      static_cast<double>(kind),
      static_cast<double>(size),
      static_cast<double>(status.st_ino),
      static_cast<double>(flags & O_ACCMODE),
      static_cast<double>(seals < 0 ? 0 : seals),
      is_device ? static_cast<double>(major(status.st_rdev)) : -1,
      is_device ? static_cast<double>(minor(status.st_rdev)) : -1,
  };
  if (sizeof(fields) > bytes) return Result(env, -EINVAL);
  std::memcpy(into, fields, sizeof(fields));
  return Result(env, 0);
}

}  // namespace

void RegisterDescriptor(Napi::Env env, Napi::Object exports) {
  exports.Set("open", Napi::Function::New<Open>(env, "open"));
  exports.Set("adopt", Napi::Function::New<Adopt>(env, "adopt"));
  exports.Set("adoptNew", Napi::Function::New<AdoptNew>(env, "adoptNew"));
  exports.Set("duplicate", Napi::Function::New<Duplicate>(env, "duplicate"));
  exports.Set("duplicateFd", Napi::Function::New<DuplicateFd>(env, "duplicateFd"));
  exports.Set("fd", Napi::Function::New<Fd>(env, "fd"));
  exports.Set("inode", Napi::Function::New<Inode>(env, "inode"));
  exports.Set("close", Napi::Function::New<Close>(env, "close"));
  exports.Set("release", Napi::Function::New<Release>(env, "release"));
  exports.Set("describe", Napi::Function::New<Describe>(env, "describe"));
}

}  // namespace dmabuf
