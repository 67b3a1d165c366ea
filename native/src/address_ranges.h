// SPDX-License-Identifier: MIT
// Address ranges that nothing refers to any more, kept until giving them up is worth a
// system call: neighbours, which those of small buffers mostly are, go in one.
#pragma once

#include <cstddef>
#include <vector>

namespace dmabuf {

class AddressRanges {
 public:
  AddressRanges() = default;
  ~AddressRanges() { Unmap(); }
  AddressRanges(const AddressRanges&) = delete;
  AddressRanges& operator=(const AddressRanges&) = delete;

  void Add(void* address, size_t length);
  // Those that Add has kept.
  void Unmap();

 private:
  struct Range {
    char* start;
    char* end;
  };
  std::vector<Range> ranges_;
  size_t bytes_ = 0;
};

}  // namespace dmabuf
