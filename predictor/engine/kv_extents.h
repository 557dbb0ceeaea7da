// SPDX-License-Identifier: Apache-2.0
// KvExtents: which slots of the flat KV arena are allocated. A sequence has one contiguous extent,
// which can grow while the slots behind it are free. Arithmetic only; engine thread.
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
  // Makes the extent at `start` `tokens` slots long, where it is. False, and nothing has changed:
  // the slots behind it are not free. REQUIRES: as Free.
  bool Resize(int64_t start, int64_t tokens);

  // Makes two extents of one, of which the first has `tokens` slots. REQUIRES: as Free; fewer than
  // it has.
  void Split(int64_t start, int64_t tokens);

  int64_t SizeOf(int64_t start) const { return allocated_.at(start); }  // REQUIRES: as Free
  // Slots that the extent at `start` could have where it is. REQUIRES: as Free.
  int64_t RoomAt(int64_t start) const;
  int64_t capacity() const { return capacity_; }
  int64_t used() const { return used_; }

 private:
  void AddFree(int64_t start, int64_t tokens);

  int64_t capacity_;
  int64_t used_ = 0;
  std::map<int64_t, int64_t> free_;       // start → tokens; neighbours are always merged
  std::map<int64_t, int64_t> allocated_;  // start → tokens
};

}  // namespace idefics
