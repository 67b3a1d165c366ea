// SPDX-License-Identifier: MIT
// Numbers that a call reads from JavaScript's ArrayBuffer and leaves there, as doubles: for what is called once a
// frame, where an object each time would cost more than the call.
#pragma once

#include <napi.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "call.h"

namespace dmabuf {

class Numbers {
 public:
  // Of at least so many doubles; an ArrayBuffer that is detached has none.
  Numbers(const Call& info, size_t argument, size_t least) {
    size_t bytes = 0;
    ok_ = napi_get_arraybuffer_info(info.Env(), info[argument], &data_, &bytes) == napi_ok &&
          bytes >= least * sizeof(double);
    count_ = ok_ ? bytes / sizeof(double) : 0;
  }

  // false once there was no such number, or it was not what was asked for
  bool Ok() const { return ok_; }
  size_t Count() const { return count_; }

  uint32_t Unsigned32(size_t index) { return static_cast<uint32_t>(Whole(index, 0, UINT32_MAX)); }
  int Signed(size_t index) { return static_cast<int>(Whole(index, INT32_MIN, INT32_MAX)); }
  // up to 2^53
  uint64_t Unsigned(size_t index) { return static_cast<uint64_t>(Whole(index, 0, kMaxSafe)); }

  void Set(size_t index, double value) {
    if (index >= count_) {
      ok_ = false;
      return;
    }
    std::memcpy(static_cast<char*>(data_) + index * sizeof(value), &value, sizeof(value));
  }

 private:
  static constexpr double kMaxSafe = 9007199254740991;

  double Whole(size_t index, double min, double max) {
    double value = NAN;
    if (index < count_) std::memcpy(&value, static_cast<char*>(data_) + index * sizeof(value), sizeof(value));
    if (value >= min && value <= max && value == std::floor(value)) return value;
    ok_ = false;
    return 0;
  }

  void* data_ = nullptr;
  size_t count_ = 0;
  bool ok_ = false;
};

}  // namespace dmabuf
