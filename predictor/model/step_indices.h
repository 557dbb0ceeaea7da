// SPDX-License-Identifier: Apache-2.0
// The index arrays of one step, gathered on the host from its rows. Names as decoder.forward, and
// the choices of idefics::choose_tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/check.h"
#include "predictor/model/model_runner.h"

namespace idefics {

struct StepIndices {
  std::vector<int32_t> tokens, positions, kv_slots, image_entry;  // [T]
  std::vector<int32_t> row_starts{0};                             // [R + 1]
  std::vector<int32_t> kv_starts;    // [R, 2]: first slot of the shared keys, of the row's own
  std::vector<int32_t> kv_lengths;   // [R, 2]: shared keys, all keys
  std::vector<int32_t> sample_rows;  // [S]
  std::vector<RowChoice> choices;    // [S]
  std::vector<int64_t> host_rows;    // of these S, those whose logits the host wants

  explicit StepIndices(std::span<const StepRow> rows) {
    for (const StepRow& row : rows) {
      const auto count = static_cast<int32_t>(row.tokens.size());
      tokens.insert(tokens.end(), row.tokens.begin(), row.tokens.end());
      image_entry.insert(image_entry.end(), row.image_entries.begin(), row.image_entries.end());
      for (int32_t t = 0; t < count; ++t) {
        positions.push_back(row.position + t);
        kv_slots.push_back(static_cast<int32_t>(row.SlotOf(row.position + t)));
      }
      row_starts.push_back(row_starts.back() + count);
      kv_starts.push_back(static_cast<int32_t>(row.shared_start));
      kv_starts.push_back(static_cast<int32_t>(row.kv_start));
      kv_lengths.push_back(row.shared_tokens);
      kv_lengths.push_back(row.position + count);
      if (row.wants_logits) AddSample(row);
    }
  }

  size_t rows() const { return row_starts.size() - 1; }

 private:
  void AddSample(const StepRow& row) {
    RowChoice choice;
    if (row.choice != nullptr) {
      IDEFICS_CHECK_EQ(row.shared_tokens, 0);
      choice = *row.choice;
      choice.history_start = static_cast<int32_t>(row.kv_start);
      choice.history_length = row.position + static_cast<int32_t>(row.tokens.size());
    } else {
      host_rows.push_back(static_cast<int64_t>(sample_rows.size()));
    }
    sample_rows.push_back(row_starts.back() - 1);
    choices.push_back(choice);
  }
};

}  // namespace idefics
