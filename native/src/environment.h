// SPDX-License-Identifier: MIT
// What the addon keeps for one Node environment: the main thread's or a worker's.
// JavaScript holds numbers (handles) that are never used again, so that no value it
// could pass can name anything but its own live objects.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "address_ranges.h"
#include "descriptor.h"
#include "socket.h"

namespace dmabuf {

class Mapping;
class Poller;

class Environment : public std::enable_shared_from_this<Environment> {
 public:
  using Handle = uint64_t;

  // With the numbers it shares with JavaScript among the exports.
  static void Install(Napi::Env env, Napi::Object exports);
  static Environment& Of(Napi::Env env);
  ~Environment();

  // A handle of fd, or -errno; a negative fd stands for a call that left errno.
  Napi::Value Adopt(Napi::Env env, UniqueFd fd);
  // The kernel has given a number that a handle may still claim, which others closed.
  void Disown(int fd);
  // Whether a live handle owns this number already.
  bool Owns(int fd) const;
  std::shared_ptr<Descriptor> Find(Handle handle) const;
  std::shared_ptr<Descriptor> Forget(Handle handle);
  // The checked number behind a handle, or -errno; and what fstat says of it.
  int Fd(Handle handle, FileStatus* status = nullptr) const;

  Handle NextHandle() { return next_handle_++; }

  // By a handle of their own, as long as they are not closed; owned by the finalizers of
  // their ArrayBuffers, see mapping.cc.
  std::unordered_map<Handle, Mapping*> mappings;
  // Mappings closed, whose address range is not given up yet, and their bytes.
  std::vector<Mapping*> parked;
  uint64_t parked_bytes = 0;
  uint64_t parked_sweep_at = 32 << 20;
  uint64_t parked_after_collection = 0;
  // Of parked mappings that are gone.
  AddressRanges unused;

  // What a call answers beside its value, so many numbers; JavaScript has the same memory.
  double* numbers = nullptr;
  static constexpr size_t kNumbers = 2 + kMaxFdsPerMessage;

  // Owned by libuv until their close callback, see poller.cc.
  std::unordered_map<Handle, Poller*> pollers;
  size_t open_pollers = 0;
  void PollerClosed();

  // Numbers that recvmsg has given, and no handle nor script has yet: a thread may be ended before it knows of them.
  std::vector<int> unclaimed;

 private:
  void ShareNumbers(Napi::Env env, Napi::Object exports);
  void CloseEverything(napi_async_cleanup_hook_handle hook);

  Handle next_handle_ = 1;
  std::unordered_map<Handle, std::shared_ptr<Descriptor>> descriptors_;
  // The one that was used last: one call after the other is mostly for the same.
  mutable Handle recent_ = 0;
  mutable const Descriptor* recent_descriptor_ = nullptr;
  // The newest handle of each number.
  std::unordered_map<int, Handle> handle_of_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  napi_env env_ = nullptr;
  // keeps `numbers`
  napi_ref shared_numbers_ = nullptr;
};

}  // namespace dmabuf
