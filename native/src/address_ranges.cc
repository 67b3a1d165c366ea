// SPDX-License-Identifier: MIT
#include "address_ranges.h"

#include <sys/mman.h>

#include <algorithm>
#include <functional>

#include "mapping_count.h"

namespace dmabuf {
namespace {

// The collector gives them in any order: the more there are, the more are neighbours.
constexpr size_t kMostRanges = 1024;
// A 32-bit process has few addresses.
constexpr size_t kMostBytes = (sizeof(void*) == 4 ? size_t{4} : size_t{64}) << 20;

}  // namespace

void AddressRanges::Add(void* address, size_t length) {
  auto* const start = static_cast<char*>(address);
  ranges_.push_back({start, start + length});
  bytes_ += length;
  if (ranges_.size() >= kMostRanges || bytes_ >= kMostBytes) Unmap();
}

void AddressRanges::Unmap() {
  const std::less<> before;
  std::sort(ranges_.begin(), ranges_.end(), [&](const Range& a, const Range& b) { return before(a.start, b.start); });
  for (auto next = ranges_.cbegin(); next != ranges_.cend();) {
    Range whole = *next;
    while (++next != ranges_.cend() && next->start == whole.end) whole.end = next->end;
    munmap(whole.start, static_cast<size_t>(whole.end - whole.start));
  }
  MappingCount::Remove(ranges_.size());
  ranges_.clear();
  bytes_ = 0;
}

}  // namespace dmabuf
