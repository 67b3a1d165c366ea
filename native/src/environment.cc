// SPDX-License-Identifier: MIT
#include "environment.h"

#include <unistd.h>

#include <cerrno>
#include <vector>

#include "arguments.h"
#include "call.h"
#include "mapping.h"
#include "poller.h"

namespace dmabuf {

using Shared = std::shared_ptr<Environment>;

void Environment::Install(Napi::Env env, Napi::Object exports) {
  auto* const data = new Shared(std::make_shared<Environment>());
  env.SetInstanceData<Shared>(data);
  (*data)->ShareNumbers(env, exports);
  // libuv handles are gone only after their close callback: the environment has to
  // wait for that, which asynchronous hooks alone make it do.
  napi_add_async_cleanup_hook(
      env,
      [](napi_async_cleanup_hook_handle hook, void* argument) {
        std::unique_ptr<Shared> self(static_cast<Shared*>(argument));
        (*self)->CloseEverything(hook);
      },
      new Shared(*data), nullptr);
}

void Register(Napi::Env env, Napi::Object exports, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  // A pending exception is what is left where that fails.
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, &Environment::Of(env), &function) == napi_ok) {
    exports.Set(name, function);
  }
}

Environment& Environment::Of(Napi::Env env) { return **env.GetInstanceData<Shared>(); }

Environment::~Environment() = default;

void Environment::ShareNumbers(Napi::Env env, Napi::Object exports) {
  void* memory = nullptr;
  napi_value shared = nullptr;
  // V8's memory, since programs with a V8 of their own may allow no other.
  if (napi_create_arraybuffer(env, kNumbers * sizeof(double), &memory, &shared) != napi_ok ||
      napi_create_reference(env, shared, 1, &shared_numbers_) != napi_ok) {
    Napi::Error::New(env, "no memory for the bridge's numbers").ThrowAsJavaScriptException();
    return;
  }
  env_ = env;
  numbers = static_cast<double*>(memory);
  exports.Set("numbers", Napi::Value(env, shared));
}

void Environment::CloseEverything(napi_async_cleanup_hook_handle hook) {
  std::vector<Poller*> open;
  open.reserve(pollers.size());
  for (const auto& [handle, poller] : pollers) open.push_back(poller);
  for (Poller* poller : open) poller->Close();
  for (const int fd : std::exchange(unclaimed, {})) close(fd);
  recent_descriptor_ = nullptr;
  descriptors_.clear();
  if (shared_numbers_ != nullptr) napi_delete_reference(env_, std::exchange(shared_numbers_, nullptr));
  if (open_pollers == 0) {
    napi_remove_async_cleanup_hook(hook);
  } else {
    hook_ = hook;
  }
}

void Environment::PollerClosed() {
  open_pollers--;
  if (open_pollers == 0 && hook_ != nullptr) napi_remove_async_cleanup_hook(std::exchange(hook_, nullptr));
}

Napi::Value Environment::Adopt(Napi::Env env, UniqueFd fd) {
  if (fd.Get() < 0) return Result(env, -errno);
  auto descriptor = Descriptor::Adopt(fd);
  if (!descriptor) return Result(env, -errno);
  const Handle handle = NextHandle();
  Handle& newest = handle_of_[descriptor->Number()];
  // Somebody else has closed the number of that one, which might now pass for this.
  if (const auto lost = Find(newest)) lost->Release();
  newest = handle;
  descriptors_.emplace(handle, std::move(descriptor));
  return Napi::Number::New(env, static_cast<double>(handle));
}

void Environment::Disown(int fd) {
  const auto found = handle_of_.find(fd);
  if (found == handle_of_.end()) return;
  if (const auto lost = Find(found->second)) lost->Release();
  handle_of_.erase(found);
}

bool Environment::Owns(int fd) const {
  const auto found = handle_of_.find(fd);
  return found != handle_of_.end() && Fd(found->second) == fd;
}

std::shared_ptr<Descriptor> Environment::Find(Handle handle) const {
  const auto found = descriptors_.find(handle);
  return found == descriptors_.end() ? nullptr : found->second;
}

std::shared_ptr<Descriptor> Environment::Forget(Handle handle) {
  const auto found = descriptors_.find(handle);
  if (found == descriptors_.end()) return nullptr;
  if (handle == recent_) recent_descriptor_ = nullptr;
  auto descriptor = std::move(found->second);
  descriptors_.erase(found);
  const auto newest = handle_of_.find(descriptor->Number());
  if (newest != handle_of_.end() && newest->second == handle) handle_of_.erase(newest);
  return descriptor;
}

int Environment::Fd(Handle handle, FileStatus* status) const {
  if (handle != recent_ || recent_descriptor_ == nullptr) {
    const auto found = descriptors_.find(handle);
    if (found == descriptors_.end()) return -ESTALE;
    recent_ = handle;
    recent_descriptor_ = found->second.get();
  }
  return recent_descriptor_->Fd(status);
}

}  // namespace dmabuf
