// SPDX-License-Identifier: MIT
// Reads the arguments of one call. TypeScript has checked them; this only makes
// sure that a wrong one becomes EINVAL and never undefined behaviour.
#pragma once

#include <napi.h>

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <string>

#include "call.h"

namespace dmabuf {

class Arguments {
 public:
  explicit Arguments(const Call& info) : info_(info) {}

  // false once any argument was not what was asked for
  bool Ok() const { return ok_; }

  uint64_t Unsigned(size_t index, uint64_t max = kMaxSafeInteger) {
    const double value = Double(index);
    // Nearly all are so small, for which a 32-bit processor has instructions.
    if (value >= 0 && value <= UINT32_MAX) {
      const auto whole = static_cast<uint32_t>(value);
      if (value == whole && whole <= max) return whole;
    }
    if (!(value >= 0 && value <= static_cast<double>(max)) || value != std::floor(value)) {
      ok_ = false;
      return 0;
    }
    return static_cast<uint64_t>(value);
  }

  uint32_t Unsigned32(size_t index) { return static_cast<uint32_t>(Unsigned(index, UINT32_MAX)); }

  int Signed(size_t index) {
    const double value = Double(index);
    if (value >= INT32_MIN && value <= INT32_MAX) {
      const auto whole = static_cast<int>(value);
      if (value == whole) return whole;
    }
    ok_ = false;
    return -1;
  }

  bool Boolean(size_t index) {
    bool value = false;
    if (napi_get_value_bool(info_.Env(), info_[index], &value) != napi_ok) ok_ = false;
    return value;
  }

  std::string String(size_t index) {
    if (!info_[index].IsString()) {
      ok_ = false;
      return std::string();
    }
    return info_[index].As<Napi::String>().Utf8Value();
  }

 private:
  static constexpr uint64_t kMaxSafeInteger = (uint64_t{1} << 53) - 1;

  double Double(size_t index) {
    double value = -1;
    if (napi_get_value_double(info_.Env(), info_[index], &value) != napi_ok) ok_ = false;
    return value;
  }

  const Call& info_;
  bool ok_ = true;
};

// Every function answers with a negative errno, or 0, a handle, an object.
inline Napi::Value Result(Napi::Env env, int value) {
  napi_value result = nullptr;
  napi_create_int32(env, value, &result);
  return {env, result};
}

}  // namespace dmabuf
