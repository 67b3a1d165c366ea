// SPDX-License-Identifier: MIT
// Who owns a file descriptor.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "file_status.h"

namespace dmabuf {

// A descriptor number nobody else has heard of yet.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd();

  int Get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// A descriptor whose number JavaScript knows, so that it may have been closed, and
// the number given to another file, behind our back: device and inode are compared
// before every use, and it is never closed twice.
class Descriptor {
 public:
  // null, with errno set and nothing closed, where fd is not open
  static std::shared_ptr<Descriptor> Adopt(UniqueFd& fd);
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  // The number, or -ESTALE where it was closed, whether or not it is another file now, which
  // no call of the kernel's answers here; and what fstat says of it.
  int Fd(FileStatus* status = nullptr) const;
  // The same unchecked.
  int Number() const { return fd_; }
  uint64_t Inode() const { return inode_; }
  int Close();
  // The number, which the caller owns from now on.
  int Release();

 private:
  Descriptor(int fd, const FileStatus& status) : fd_(fd), device_(status.device), inode_(status.inode) {}

  int fd_;
  uint64_t device_;
  uint64_t inode_;
};

}  // namespace dmabuf
