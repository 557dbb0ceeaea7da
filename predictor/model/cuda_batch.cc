// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_batch.h"

#include <cstring>

#include "common/check.h"

namespace idefics {
namespace {

// Fewer rows are padded to the next of these: docs/performance.md#cuda-graphs.
constexpr int kGraphRows[] = {1, 2, 4, 8, 16, 32, 48, 64, 96, 128};

bool IsPlainDecode(const StepIndices& step) {
  const size_t rows = step.rows();
  if (step.tokens.size() != rows || step.sample_rows.size() != rows) return false;
  for (size_t row = 0; row < rows; ++row) {
    if (step.row_starts[row + 1] != step.row_starts[row] + 1) return false;
  }
  return true;
}

}  // namespace

int GraphRows(const StepIndices& step) {
  const size_t rows = step.rows();
  if (rows == 0 || !IsPlainDecode(step)) return 0;
  for (const int graph : kGraphRows) {
    if (rows <= static_cast<size_t>(graph)) return graph;
  }
  return 0;
}

std::array<int64_t, 9> GraphInputSizes(int64_t rows) {
  return {rows, rows, rows, rows, rows + 1, 2 * rows, 2 * rows, rows, kRowChoiceWords * rows};
}

std::vector<int32_t> GraphInput(const StepIndices& step, int rows, int32_t scratch_slot) {
  IDEFICS_CHECK(rows > 0 && static_cast<size_t>(rows) >= step.rows());
  std::vector<int32_t> input;
  const auto append = [&](const std::vector<int32_t>& values, int32_t filler) {
    input.insert(input.end(), values.begin(), values.end());
    input.resize(input.size() + rows - values.size(), filler);
  };
  const auto append_pairs = [&](const std::vector<int32_t>& values, int32_t filler) {
    input.insert(input.end(), values.begin(), values.end());
    for (size_t row = step.rows(); row < static_cast<size_t>(rows); ++row) {
      input.insert(input.end(), {0, filler});  // no shared keys
    }
  };
  append(step.tokens, 0);
  append(step.positions, 0);
  append(step.kv_slots, scratch_slot);
  append(step.image_entry, -1);
  for (int32_t row = 0; row <= rows; ++row) input.push_back(row);  // row_starts
  append_pairs(step.kv_starts, scratch_slot);
  append_pairs(step.kv_lengths, 1);
  for (int32_t row = 0; row < rows; ++row) input.push_back(row);  // sample_rows
  std::vector<RowChoice> choices = step.choices;
  choices.resize(rows);
  const size_t at = input.size();
  input.resize(at + rows * kRowChoiceWords);
  std::memcpy(input.data() + at, choices.data(), rows * sizeof(RowChoice));
  return input;
}

}  // namespace idefics
