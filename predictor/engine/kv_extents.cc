// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/kv_extents.h"

#include <iterator>

#include "common/check.h"

namespace idefics {

KvExtents::KvExtents(int64_t capacity) : capacity_(capacity) { free_[0] = capacity; }

std::optional<int64_t> KvExtents::Allocate(int64_t tokens) {
  IDEFICS_CHECK_LT(0, tokens);
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const auto [start, size] = *it;
    if (size < tokens) continue;
    free_.erase(it);
    if (size > tokens) free_[start + tokens] = size - tokens;
    allocated_[start] = tokens;
    used_ += tokens;
    return start;
  }
  return std::nullopt;
}

void KvExtents::Free(int64_t start) {
  const auto owned = allocated_.find(start);
  IDEFICS_CHECK(owned != allocated_.end());
  int64_t tokens = owned->second;
  allocated_.erase(owned);
  used_ -= tokens;
  auto next = free_.lower_bound(start);
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == start) {
      start = previous->first;
      tokens += previous->second;
      free_.erase(previous);
    }
  }
  if (next != free_.end() && start + tokens == next->first) {
    tokens += next->second;
    free_.erase(next);
  }
  free_[start] = tokens;
}

}  // namespace idefics
