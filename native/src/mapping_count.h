// SPDX-License-Identifier: MIT
// How many ranges of addresses all threads of the process hold, and how many they may.
//
// A process has vm.max_map_count mappings. Where none is left malloc, the stacks of threads
// and V8's heap have no memory either, and the process dies of whatever comes first: what
// we hold ends before that.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <fstream>

namespace dmabuf {

class MappingCount {
 public:
  static void Add() { Held().fetch_add(1, std::memory_order_relaxed); }
  static void Remove(size_t count = 1) { Held().fetch_sub(count, std::memory_order_relaxed); }
  // Whether another one is too many.
  static bool Full() { return Held().load(std::memory_order_relaxed) >= Most(); }

 private:
  // Three quarters: the rest is for the program, for Node and for collecting garbage. Read once.
  static size_t Most() {
    static const size_t most = [] {
      // The kernel's default (DEFAULT_MAX_MAP_COUNT, linux/mm.h), for where /proc is not mounted.
      size_t limit = 65530;
      std::ifstream("/proc/sys/vm/max_map_count") >> limit;
      return std::max(limit / 4 * 3, size_t{1});
    }();
    return most;
  }

  static std::atomic<size_t>& Held() {
    static std::atomic<size_t> held{0};
    return held;
  }
};

}  // namespace dmabuf
