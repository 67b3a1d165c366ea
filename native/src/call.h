// SPDX-License-Identifier: MIT
// One call from JavaScript: its arguments, and the environment it comes from. Made for each function by Register();
// what node-addon-api has for it takes twice as many instructions as V8 takes to get here and back.
#pragma once

#include <napi.h>

#include <array>
#include <cstddef>

namespace dmabuf {

class Environment;

class Call {
 public:
  Call(napi_env env, napi_callback_info info) : env_(env) {
    size_t count = values_.size();
    if (napi_get_cb_info(env, info, &count, values_.data(), nullptr, &environment_) != napi_ok) values_ = {};
  }

  Napi::Env Env() const { return env_; }
  dmabuf::Environment& Environment() const { return *static_cast<dmabuf::Environment*>(environment_); }
  // undefined where there is none; index is less than kMost
  Napi::Value operator[](size_t index) const { return {env_, values_[index]}; }

 private:
  // More arguments than any function has are not looked at.
  static constexpr size_t kMost = 6;

  napi_env env_;
  std::array<napi_value, kMost> values_;
  void* environment_ = nullptr;
};

template <Napi::Value (*function)(const Call&)>
napi_value Callback(napi_env env, napi_callback_info info) {
  return function(Call(env, info));
}

// Its environment must be installed.
void Register(Napi::Env env, Napi::Object exports, const char* name, napi_callback callback);

template <Napi::Value (*function)(const Call&)>
void Register(Napi::Env env, Napi::Object exports, const char* name) {
  Register(env, exports, name, Callback<function>);
}

}  // namespace dmabuf
