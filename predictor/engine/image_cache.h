// SPDX-License-Identifier: Apache-2.0
// ImageCache: which image's cross-attention K/V is in which slot of the runner's cache. The key is
// the sha256 of the preprocessed pixels, so that a second question about an image skips the vision
// tower. The least recently used slot is reused first; a slot that an active request pins is never
// reused. Engine thread.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace idefics {

class ImageCache {
 public:
  explicit ImageCache(int32_t slots);

  // Pins a slot for the image and counts a hit or a miss. Nothing: all slots are pinned, by others.
  std::optional<int32_t> Pin(const std::string& sha256);
  void Unpin(int32_t slot);
  // The slot's K/V were written (true), or could not be (false: the slot forgets its image).
  void SetEncoded(int32_t slot, bool encoded);
  bool encoded(int32_t slot) const { return slots_[slot].encoded; }

  // Slots by their images: those that are pinned, and those that are encoded and are not.
  int64_t num_pinned() const { return num_pinned_; }
  int64_t num_cached() const { return num_cached_; }

  int64_t hits() const { return hits_; }
  int64_t misses() const { return misses_; }

 private:
  struct Slot {
    std::string sha256;
    int32_t pins = 0;
    bool encoded = false;
    std::list<int32_t>::iterator recency;  // in recent_
  };

  void Touch(int32_t slot);

  std::vector<Slot> slots_;
  std::list<int32_t> recent_;  // most recently used first
  std::unordered_map<std::string, int32_t> by_hash_;
  int64_t num_pinned_ = 0;
  int64_t num_cached_ = 0;
  int64_t hits_ = 0;
  int64_t misses_ = 0;
};

}  // namespace idefics
