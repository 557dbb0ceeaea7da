// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_batch.h"

#include <algorithm>

#include "common/check.h"

namespace idefics {
namespace {

// Steps of up to `tokens` tokens that are no plain decode steps: prompts beside few decode rows,
// and few tokens beside many rows, or guesses. Neither has as many rows as tokens, by which
// idefics::attend would take it for a plain decode step.
std::array<StepSize, 2> MixedSizes(int tokens) {
  return {{{tokens / 8, tokens, tokens / 8}, {tokens - 1, tokens, tokens}}};
}

bool IsPlainDecode(const StepIndices& step) {
  const StepSize size = step.size();
  if (size.tokens != size.rows || size.samples != size.rows) return false;
  for (size_t row = 0; row < step.rows(); ++row) {
    if (step.row_starts[row + 1] != step.row_starts[row] + 1) return false;
  }
  return true;
}

// Tokens beyond the step's own need a row beyond its own.
bool Fits(const StepSize& own, const StepSize& whole) {
  return own.rows <= whole.rows && own.tokens <= whole.tokens && own.samples <= whole.samples &&
         (own.rows < whole.rows || own.tokens == whole.tokens);
}

}  // namespace

std::vector<StepSize> GraphSizes(int most_rows, int64_t kv_tokens) {
  std::vector<StepSize> sizes;
  for (const int rows : kGraphRows) {
    if (sizes.empty() || sizes.back().rows < most_rows) sizes.push_back({rows, rows, rows});
  }
  std::ranges::reverse(sizes);
  for (auto tokens = kGraphTokens.rbegin(); tokens != kGraphTokens.rend(); ++tokens) {
    if (*tokens > kv_tokens) continue;  // a row of padding sees as many slots
    const auto mixed = MixedSizes(*tokens);
    sizes.insert(sizes.end(), mixed.rbegin(), mixed.rend());
  }
  return sizes;
}

std::optional<StepSize> GraphSizeOf(const StepIndices& step) {
  if (step.rows() == 0) return std::nullopt;
  if (IsPlainDecode(step)) {
    const auto rows = std::ranges::lower_bound(kGraphRows, step.size().rows);
    if (rows == kGraphRows.end()) return std::nullopt;
    return StepSize{*rows, *rows, *rows};
  }
  for (const int tokens : kGraphTokens) {
    for (const StepSize& size : MixedSizes(tokens)) {
      if (Fits(step.size(), size)) return size;
    }
  }
  return std::nullopt;
}

std::array<int64_t, kStepArrays.size()> GraphInputSizes(const StepSize& size) {
  std::array<int64_t, kStepArrays.size()> sizes{};
  for (size_t i = 0; i < sizes.size(); ++i) {
    const StepArray& array = kStepArrays[i];
    sizes[i] = (size.*array.length + array.extra) * array.columns;
  }
  return sizes;
}

std::vector<int32_t> GraphInput(const StepIndices& step, const StepSize& whole,
                                int32_t scratch_slot) {
  const StepPadding padding{step.size(), whole, scratch_slot};
  IDEFICS_CHECK(whole.rows > 0 && Fits(padding.own, whole));
  std::vector<int32_t> input;
  for (const StepArray& array : kStepArrays) {
    const std::vector<int32_t>& values = step.*array.values;
    input.insert(input.end(), values.begin(), values.end());
    const auto own = static_cast<int>(static_cast<int64_t>(values.size()) / array.columns);
    for (int entry = own; entry < whole.*array.length + array.extra; ++entry) {
      for (int64_t column = 0; column < array.columns; ++column) {
        input.push_back(array.pad(padding, entry, column));
      }
    }
  }
  return input;
}

}  // namespace idefics
