// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/image_table.h"

#include <algorithm>

#include "common/check.h"

namespace idefics {

ImageTable::ImageTable(int32_t entries) : rows_(entries) {
  for (int32_t i = 0; i < entries; ++i) rows_[i].place = recent_.insert(recent_.end(), i);
}

void ImageTable::Touch(int32_t entry) {
  recent_.splice(recent_.begin(), recent_, rows_[entry].place);
}

std::optional<int32_t> ImageTable::Pin(const std::string& sha256) {
  if (const auto found = by_hash_.find(sha256); found != by_hash_.end()) {
    Row& row = rows_[found->second];
    ++row.pins;
    ++hits_;
    Touch(found->second);
    return found->second;
  }
  const auto victim = std::find_if(recent_.rbegin(), recent_.rend(),
                                   [&](int32_t entry) { return rows_[entry].pins == 0; });
  if (victim == recent_.rend()) return std::nullopt;
  const int32_t entry = *victim;
  Row& row = rows_[entry];
  if (!row.sha256.empty()) by_hash_.erase(row.sha256);
  row.sha256 = sha256;
  row.pins = 1;
  row.encoded = false;
  by_hash_[sha256] = entry;
  ++misses_;
  Touch(entry);
  return entry;
}

void ImageTable::Unpin(int32_t entry) {
  IDEFICS_CHECK_LT(0, rows_[entry].pins);
  --rows_[entry].pins;
}

void ImageTable::SetEncoded(int32_t entry, bool encoded) {
  Row& row = rows_[entry];
  row.encoded = encoded;
  if (!encoded && !row.sha256.empty()) {
    by_hash_.erase(row.sha256);
    row.sha256.clear();
  }
}

int32_t ImageTable::pinned() const {
  return static_cast<int32_t>(
      std::count_if(rows_.begin(), rows_.end(), [](const Row& row) { return row.pins > 0; }));
}

}  // namespace idefics
