// SPDX-License-Identifier: Apache-2.0
// ImageTable: which picture's cross-attention K/V lies in which row of the runner's table. Keyed by
// the sha256 of the preprocessed pixels, so that a second question about a picture skips the vision
// tower. Least recently used rows go first; a row that a running request pins is never evicted.
// Engine thread.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace idefics {

class ImageTable {
 public:
  explicit ImageTable(int32_t entries);

  // Pins a row for the picture, evicting an unpinned one if need be; nothing when all are pinned.
  std::optional<int32_t> Pin(const std::string& sha256);
  void Unpin(int32_t entry);
  // The row's K/V were written (true) or could not be (false: the row forgets its picture).
  void SetEncoded(int32_t entry, bool encoded);
  bool encoded(int32_t entry) const { return rows_[entry].encoded; }

  int32_t pinned() const;
  int64_t hits() const { return hits_; }
  int64_t misses() const { return misses_; }

 private:
  struct Row {
    std::string sha256;
    int32_t pins = 0;
    bool encoded = false;
    std::list<int32_t>::iterator place;  // in recent_
  };

  void Touch(int32_t entry);

  std::vector<Row> rows_;
  std::list<int32_t> recent_;  // most recently used first
  std::unordered_map<std::string, int32_t> by_hash_;
  int64_t hits_ = 0;
  int64_t misses_ = 0;
};

}  // namespace idefics
