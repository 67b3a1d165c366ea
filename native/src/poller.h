// SPDX-License-Identifier: MIT
// Tells JavaScript when a descriptor is ready, on the environment's own loop.
#pragma once

#include <napi.h>
#include <uv.h>

#include <memory>

#include "call.h"
#include "environment.h"

namespace dmabuf {

class Poller {
 public:
  // A handle, or -errno. The callback gets UV_READABLE, UV_WRITABLE, UV_DISCONNECT and UV_PRIORITIZED bits,
  // or -errno.
  static Napi::Value Create(const Call& info);

  // events 0: call back no more, and let the process end
  int Update(int events, bool referenced);
  // The descriptor is out of the loop at once; libuv's memory follows a tick later.
  void Close();

 private:
  Poller(std::shared_ptr<Environment> environment, std::shared_ptr<Descriptor> descriptor)
      : environment_(std::move(environment)), descriptor_(std::move(descriptor)) {}

  static void OnReady(uv_poll_t* handle, int status, int events);
  static void OnClosed(uv_handle_t* handle);

  const std::shared_ptr<Environment> environment_;
  // keeps the number from being given to another file while libuv watches it
  std::shared_ptr<Descriptor> descriptor_;
  Environment::Handle handle_ = 0;
  uv_poll_t poll_ = {};
  // what libuv watches for; 0 where it does not
  int started_ = 0;
  // Nobody waits, whatever libuv watches.
  bool idle_ = false;
  Napi::FunctionReference callback_;
  std::unique_ptr<Napi::AsyncContext> context_;
};

}  // namespace dmabuf
