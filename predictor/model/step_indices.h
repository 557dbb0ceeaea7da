// SPDX-License-Identifier: Apache-2.0
// The index arrays of one step, gathered on the host from its rows. Names as decoder.forward.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "predictor/model/model_runner.h"

namespace idefics {

struct StepIndices {
  std::vector<int32_t> tokens, positions, kv_slots, image_entry;           // [T]
  std::vector<int32_t> row_starts{0}, kv_starts, kv_lengths, sample_rows;  // [R + 1], [R], [R], [S]

  explicit StepIndices(std::span<const StepRow> rows) {
    for (const StepRow& row : rows) {
      const auto count = static_cast<int32_t>(row.tokens.size());
      const auto start = static_cast<int32_t>(row.kv_start);
      tokens.insert(tokens.end(), row.tokens.begin(), row.tokens.end());
      image_entry.insert(image_entry.end(), row.image_entries.begin(), row.image_entries.end());
      for (int32_t t = 0; t < count; ++t) {
        positions.push_back(row.position + t);
        kv_slots.push_back(start + row.position + t);
      }
      row_starts.push_back(row_starts.back() + count);
      kv_starts.push_back(start);
      kv_lengths.push_back(row.position + count);
      if (row.wants_logits) sample_rows.push_back(row_starts.back() - 1);
    }
  }
};

}  // namespace idefics
