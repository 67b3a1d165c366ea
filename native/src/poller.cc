// SPDX-License-Identifier: MIT
#include "poller.h"

#include <cerrno>
#include <utility>

#include "arguments.h"
#include "bindings.h"

namespace dmabuf {

// pollerCreate(file, callback)
Napi::Value Poller::Create(const Call& info) {
  const Napi::Env env = info.Env();
  Environment& environment = info.Environment();
  Arguments arguments(info);
  auto descriptor = environment.Find(arguments.Unsigned(0));
  const int fd = descriptor ? descriptor->Fd() : -ESTALE;
  if (!arguments.Ok() || !info[1].IsFunction()) return Result(env, -EINVAL);
  if (fd < 0) return Result(env, fd);
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return Result(env, -ENOTSUP);

  auto poller = std::unique_ptr<Poller>(new Poller(environment.shared_from_this(), std::move(descriptor)));
  const int error = uv_poll_init(loop, &poller->poll_, fd);
  if (error != 0) return Result(env, error);
  poller->callback_ = Napi::Persistent(info[1].As<Napi::Function>());
  poller->context_ = std::make_unique<Napi::AsyncContext>(env, "dmabuf.poll");
  poller->poll_.data = poller.get();
  poller->handle_ = environment.NextHandle();
  environment.pollers.emplace(poller->handle_, poller.get());
  environment.open_pollers++;
  // OnClosed deletes it
  return Napi::Number::New(env, static_cast<double>(poller.release()->handle_));
}

int Poller::Update(int events, bool referenced) {
  const int wanted = events & (UV_READABLE | UV_WRITABLE | UV_DISCONNECT | UV_PRIORITIZED);
  auto* const handle = reinterpret_cast<uv_handle_t*>(&poll_);
  if (wanted == 0) {
    // Stopping and starting are system calls, so that is put off until something happens; who waits for one message
    // after the other is spared them.
    idle_ = true;
    uv_unref(handle);
    return 0;
  }
  idle_ = false;
  // either may be said again
  if (referenced) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
  if (started_ == wanted) return 0;
  const int fd = descriptor_->Fd();
  const int error = fd < 0 ? fd : uv_poll_start(&poll_, wanted, OnReady);
  started_ = error == 0 ? wanted : 0;
  return error;
}

void Poller::Close() {
  environment_->pollers.erase(handle_);
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), OnClosed);
  descriptor_.reset();
  callback_.Reset();
  context_.reset();
}

void Poller::OnClosed(uv_handle_t* handle) {
  const std::unique_ptr<Poller> self(static_cast<Poller*>(handle->data));
  self->environment_->PollerClosed();
}

void Poller::OnReady(uv_poll_t* handle, int status, int events) {
  auto* const self = static_cast<Poller*>(handle->data);
  // libuv has stopped it where there is an error.
  if (status < 0) self->started_ = 0;
  if (self->idle_) {
    uv_poll_stop(handle);
    self->started_ = 0;
    return;
  }
  const Napi::Env env = self->callback_.Env();
  const Napi::HandleScope scope(env);
  // The callback may close this poller: nothing of it is used afterwards.
  const Napi::Function callback = self->callback_.Value();
  napi_value argument = Napi::Number::New(env, status < 0 ? status : events);
  const napi_async_context context = *self->context_;
  napi_value ignored;
  if (napi_make_callback(env, context, env.Global(), callback, 1, &argument, &ignored) != napi_ok &&
      env.IsExceptionPending()) {
    napi_value error;
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }
}

namespace {

Poller* Find(const Call& info) {
  Arguments arguments(info);
  const auto& pollers = info.Environment().pollers;
  const auto found = pollers.find(arguments.Unsigned(0));
  return found == pollers.end() ? nullptr : found->second;
}

Napi::Value Update(const Call& info) {
  Arguments arguments(info);
  Poller* const poller = Find(info);
  const int events = arguments.Signed(1);
  const bool referenced = arguments.Boolean(2);
  return Result(info.Env(), poller == nullptr || !arguments.Ok() ? -EBADF : poller->Update(events, referenced));
}

Napi::Value Close(const Call& info) {
  Poller* const poller = Find(info);
  if (poller != nullptr) poller->Close();
  return Result(info.Env(), poller == nullptr ? -EBADF : 0);
}

}  // namespace

void RegisterPoller(Napi::Env env, Napi::Object exports) {
  Register<Poller::Create>(env, exports, "pollerCreate");
  Register<Update>(env, exports, "pollerUpdate");
  Register<Close>(env, exports, "pollerClose");
}

}  // namespace dmabuf
