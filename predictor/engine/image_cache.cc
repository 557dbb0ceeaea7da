// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/image_cache.h"

#include <algorithm>

#include "common/check.h"

namespace idefics {

ImageCache::ImageCache(int32_t slots) : slots_(slots) {
  for (int32_t i = 0; i < slots; ++i) slots_[i].recency = recent_.insert(recent_.end(), i);
}

void ImageCache::Touch(int32_t slot) {
  recent_.splice(recent_.begin(), recent_, slots_[slot].recency);
}

std::optional<int32_t> ImageCache::Pin(const std::string& sha256) {
  if (const auto found = by_hash_.find(sha256); found != by_hash_.end()) {
    Slot& state = slots_[found->second];
    if (state.pins++ == 0) {
      ++num_pinned_;
      num_cached_ -= state.encoded ? 1 : 0;
    }
    ++hits_;
    Touch(found->second);
    return found->second;
  }
  const auto victim = std::find_if(recent_.rbegin(), recent_.rend(),
                                   [&](int32_t slot) { return slots_[slot].pins == 0; });
  if (victim == recent_.rend()) return std::nullopt;
  const int32_t slot = *victim;
  Slot& state = slots_[slot];
  if (!state.sha256.empty()) by_hash_.erase(state.sha256);
  num_cached_ -= state.encoded ? 1 : 0;
  ++num_pinned_;
  state.sha256 = sha256;
  state.pins = 1;
  state.encoded = false;
  by_hash_[sha256] = slot;
  ++misses_;
  Touch(slot);
  return slot;
}

void ImageCache::Unpin(int32_t slot) {
  IDEFICS_CHECK_LT(0, slots_[slot].pins);
  if (--slots_[slot].pins > 0) return;
  --num_pinned_;
  num_cached_ += slots_[slot].encoded ? 1 : 0;
}

void ImageCache::SetEncoded(int32_t slot, bool encoded) {
  Slot& state = slots_[slot];
  if (state.pins == 0) num_cached_ += (encoded ? 1 : 0) - (state.encoded ? 1 : 0);
  state.encoded = encoded;
  if (!encoded && !state.sha256.empty()) {
    by_hash_.erase(state.sha256);
    state.sha256.clear();
  }
}

}  // namespace idefics
