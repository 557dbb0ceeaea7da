// SPDX-License-Identifier: Apache-2.0
// KvExtents: which slots of the flat KV arena are allocated. A sequence gets one contiguous extent
// at admission, when its greatest length is known. Arithmetic only; engine thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace idefics {

class KvExtents {
 public:
  explicit KvExtents(int64_t capacity);

  // First slot of a free extent of `tokens` slots (first fit), or nothing.
  std::optional<int64_t> Allocate(int64_t tokens);
  // REQUIRES: `start` was returned by Allocate and not freed since.
  void Free(int64_t start);

  int64_t capacity() const { return capacity_; }
  int64_t used() const { return used_; }

 private:
  int64_t capacity_;
  int64_t used_ = 0;
  std::map<int64_t, int64_t> free_;       // start → tokens; neighbours are always merged
  std::map<int64_t, int64_t> allocated_;  // start → tokens
};

}  // namespace idefics
