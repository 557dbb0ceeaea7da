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
  const int64_t tokens = owned->second;
  allocated_.erase(owned);
  used_ -= tokens;
  AddFree(start, tokens);
}

bool KvExtents::Resize(int64_t start, int64_t tokens) {
  IDEFICS_CHECK_LT(0, tokens);
  int64_t& size = allocated_.at(start);
  if (tokens > size) {
    const auto behind = free_.find(start + size);
    const int64_t room = behind == free_.end() ? 0 : behind->second;
    if (tokens > size + room) return false;
    free_.erase(behind);
    if (tokens < size + room) free_[start + tokens] = size + room - tokens;
  } else if (tokens < size) {
    AddFree(start + tokens, size - tokens);
  }
  used_ += tokens - size;
  size = tokens;
  return true;
}

void KvExtents::Split(int64_t start, int64_t tokens) {
  int64_t& size = allocated_.at(start);
  IDEFICS_CHECK_LT(0, tokens);
  IDEFICS_CHECK_LT(tokens, size);
  allocated_[start + tokens] = size - tokens;
  size = tokens;
}

int64_t KvExtents::RoomAt(int64_t start) const {
  const int64_t size = allocated_.at(start);
  const auto behind = free_.find(start + size);
  return size + (behind == free_.end() ? 0 : behind->second);
}

// The slots are free from now on; grows them together with their neighbours.
void KvExtents::AddFree(int64_t start, int64_t tokens) {
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
