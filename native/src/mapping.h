// SPDX-License-Identifier: MIT
// Memory of a descriptor as an ArrayBuffer.
//
// Closing cannot just unmap: a read or write under way on the thread pool or in libuv
// still holds the address, and whatever is mapped there next would be written to or
// sent. So close detaches the ArrayBuffer and replaces the range by memory of nobody's,
// and the range is given up when both the ArrayBuffer object, which such requests keep
// alive, and V8's backing store, which ArrayBuffer.prototype.transfer() may have moved
// into another object, are gone.
#pragma once

#include <napi.h>

#include <memory>

#include "environment.h"

namespace dmabuf {

class Mapping {
 public:
  // the ArrayBuffer, or -errno; `address` is unmapped in that case
  static Napi::Value Create(Napi::Env env, Environment& environment, void* address, size_t mapped, size_t visible);

  // 0, or 1 where the ArrayBuffer that has the memory now cannot be detached
  int Close(Napi::Env env);

  // Gives up parked ranges whose ArrayBuffer the collector has taken already, without
  // waiting for its finalizers: those run only when JavaScript returns to its loop.
  static void Sweep(Napi::Env env, Environment& environment);
  // The same after a garbage collection.
  static void Collect(Napi::Env env, Environment& environment);

 private:
  Mapping(std::shared_ptr<Environment> environment, void* address, size_t mapped)
      : environment_(std::move(environment)), handle_(environment_->NextHandle()), address_(address), mapped_(mapped) {}
  static void ObjectCollected(napi_env env, void* self, void*);
  static void BackingStoreFreed(napi_env env, void* self, void*);
  void Park();
  void Unmap();

  const std::shared_ptr<Environment> environment_;
  const Environment::Handle handle_;
  void* const address_;
  // bytes, whole pages
  const size_t mapped_;
  // weak: empty once the ArrayBuffer object was collected
  napi_ref object_ = nullptr;
  bool unmapped_ = false;
  bool parked_ = false;
  // where it is in Environment::parked
  size_t parked_at_ = 0;
  bool object_gone_ = false;
  bool backing_gone_ = false;
};

}  // namespace dmabuf
