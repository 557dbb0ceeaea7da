// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_batch.h"

#include "common/check.h"

namespace idefics {
namespace {

bool IsPlainDecode(const StepIndices& step) {
  const size_t rows = step.rows();
  if (step.tokens.size() != rows || step.sample_rows.size() != rows) return false;
  for (size_t row = 0; row < rows; ++row) {
    if (step.row_starts[row + 1] != step.row_starts[row] + 1) return false;
  }
  return true;
}

}  // namespace

std::vector<int> GraphSizes(int most_rows) {
  std::vector<int> sizes;
  for (const int rows : kGraphRows) {
    if (sizes.empty() || sizes.back() < most_rows) sizes.push_back(rows);
  }
  return sizes;
}

int GraphRows(const StepIndices& step) {
  const size_t rows = step.rows();
  if (rows == 0 || !IsPlainDecode(step)) return 0;
  for (const int graph : kGraphRows) {
    if (rows <= static_cast<size_t>(graph)) return graph;
  }
  return 0;
}

std::array<int64_t, kStepArrays.size()> GraphInputSizes(int64_t rows) {
  std::array<int64_t, kStepArrays.size()> sizes{};
  for (size_t i = 0; i < sizes.size(); ++i) {
    sizes[i] = (rows + kStepArrays[i].extra_rows) * kStepArrays[i].columns;
  }
  return sizes;
}

std::vector<int32_t> GraphInput(const StepIndices& step, int rows, int32_t scratch_slot) {
  IDEFICS_CHECK(rows > 0 && static_cast<size_t>(rows) >= step.rows());
  std::vector<int32_t> input;
  for (const StepArray& array : kStepArrays) {
    const std::vector<int32_t>& values = step.*array.values;
    input.insert(input.end(), values.begin(), values.end());
    const auto own_rows = static_cast<int64_t>(values.size()) / array.columns;
    for (int64_t row = own_rows; row < rows + array.extra_rows; ++row) {
      for (int64_t column = 0; column < array.columns; ++column) {
        input.push_back(array.pad(static_cast<int32_t>(row), column, scratch_slot));
      }
    }
  }
  return input;
}

}  // namespace idefics
