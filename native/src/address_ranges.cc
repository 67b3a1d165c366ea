// SPDX-License-Identifier: MIT
#include "address_ranges.h"

#include <sys/mman.h>

#include <algorithm>

namespace dmabuf {
namespace {

constexpr size_t kMostRanges = 64;
// A 32-bit process has few addresses.
constexpr size_t kMostBytes = 1 << 20;

}  // namespace

void AddressRanges::Add(void* address, size_t length) {
  const auto start = reinterpret_cast<uintptr_t>(address);
  ranges_.push_back({start, start + length});
  bytes_ += length;
  if (ranges_.size() >= kMostRanges || bytes_ >= kMostBytes) Unmap();
}

void AddressRanges::Unmap() {
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.start < b.start; });
  for (auto next = ranges_.cbegin(); next != ranges_.cend();) {
    const uintptr_t start = next->start;
    uintptr_t end = start;
    for (; next != ranges_.cend() && (end == start || next->start == end); ++next) end = next->end;
    munmap(reinterpret_cast<void*>(start), end - start);
  }
  ranges_.clear();
  bytes_ = 0;
}

}  // namespace dmabuf
