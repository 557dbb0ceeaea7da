// SPDX-License-Identifier: Apache-2.0
// The index arrays of one step, gathered on the host from its rows, and the one table of their
// order: that of decoder.forward's arguments (scripts/export/modules.py), then the params of
// idefics::sample_tokens. Pure functions.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "common/check.h"
#include "predictor/model/model_runner.h"

namespace idefics {

// How many rows, tokens and tokens that want logits a step has.
struct StepSize {
  int rows = 0;
  int tokens = 0;
  int samples = 0;

  auto operator<=>(const StepSize&) const = default;
};

// T tokens of R rows; the logits of S tokens are wanted.
struct StepIndices {
  std::vector<int32_t> tokens, positions, kv_slots, image_slots;  // [T]
  std::vector<int32_t> row_starts{0};                             // [R + 1]
  std::vector<int32_t> kv_starts;        // [R, 2]: first slot of the shared keys, of the row's own
  std::vector<int32_t> kv_lengths;       // [R, 2]: shared keys, all keys
  std::vector<int32_t> sample_rows;      // [S]: indices into the tokens
  std::vector<int32_t> sampling_params;  // [S, kDeviceSamplingWords]
  std::vector<int64_t> host_rows;        // of the S tokens, those whose logits the host wants

  explicit StepIndices(std::span<const StepRow> rows) {
    for (const StepRow& row : rows) {
      const auto count = static_cast<int32_t>(row.tokens.size());
      tokens.insert(tokens.end(), row.tokens.begin(), row.tokens.end());
      image_slots.insert(image_slots.end(), row.image_slots.begin(), row.image_slots.end());
      for (int32_t t = 0; t < count; ++t) {
        positions.push_back(row.position + t);
        kv_slots.push_back(static_cast<int32_t>(row.SlotOf(row.position + t)));
      }
      row_starts.push_back(row_starts.back() + count);
      kv_starts.push_back(static_cast<int32_t>(row.shared_start));
      kv_starts.push_back(static_cast<int32_t>(row.kv_start));
      kv_lengths.push_back(row.shared_tokens);
      kv_lengths.push_back(row.position + count);
      for (int32_t last = row.wants_logits ? row.num_logits : 0; last > 0; --last) {
        AddSample(row, row_starts.back() - last);
      }
    }
  }

  size_t rows() const { return row_starts.size() - 1; }
  StepSize size() const {
    return {static_cast<int>(rows()), static_cast<int>(tokens.size()),
            static_cast<int>(sample_rows.size())};
  }

  // All arrays one behind the other, in the order of kStepArrays.
  std::vector<int32_t> Concatenated() const;

 private:
  void AddSample(const StepRow& row, int32_t token) {
    DeviceSamplingParams params;
    if (row.sampling != nullptr) {
      params = *row.sampling;
      params.shared_start = static_cast<int32_t>(row.shared_start);
      params.shared_length = row.shared_tokens;
      params.history_start = static_cast<int32_t>(row.kv_start);
      params.history_length = row.position + static_cast<int32_t>(row.tokens.size());
    } else {
      host_rows.push_back(static_cast<int64_t>(sample_rows.size()));
    }
    sample_rows.push_back(token);
    const size_t end = sampling_params.size();
    sampling_params.resize(end + kDeviceSamplingWords);
    std::memcpy(sampling_params.data() + end, &params, sizeof(params));
  }
};

// A step of size `own` in the place of a larger one, as a CUDA graph has it. The rows beyond the
// step's own share the tokens beyond its own: one each as far as they go, and the last row has the
// rest.
struct StepPadding {
  StepSize own;
  StepSize whole;
  int32_t scratch_slot;  // of the arena; belongs to no sequence

  // Of a row beyond the step's own, or behind the last.
  constexpr int32_t FirstToken(int row) const {
    return row == whole.rows ? whole.tokens : std::min(own.tokens + row - own.rows, whole.tokens);
  }
  constexpr int32_t Tokens(int row) const { return FirstToken(row + 1) - FirstToken(row); }
};

// One of the arrays.
struct StepArray {
  const char* name;  // as decoder.forward has it
  std::vector<int32_t> StepIndices::*values;
  int StepSize::*length;
  int64_t columns;
  int64_t extra;  // this many entries more than `length`
  // What a graph has in an entry beyond the step's own.
  int32_t (*pad)(const StepPadding& padding, int entry, int64_t column);
};

constexpr int32_t PadZero(const StepPadding&, int, int64_t) { return 0; }
constexpr int32_t PadNoImage(const StepPadding&, int, int64_t) { return -1; }
constexpr int32_t PadSample(const StepPadding&, int entry, int64_t) { return entry; }
constexpr int32_t PadScratchSlot(const StepPadding& padding, int, int64_t) {
  return padding.scratch_slot;
}
constexpr int32_t PadRowStart(const StepPadding& padding, int row, int64_t) {
  return padding.FirstToken(row);
}
// Nothing shared. The key of a row of one token is in the scratch slot; a longer one sees whatever
// is in the arena's first slots.
constexpr int32_t PadKvStart(const StepPadding& padding, int row, int64_t column) {
  return column == 0 || padding.Tokens(row) > 1 ? 0 : padding.scratch_slot;
}
constexpr int32_t PadKvLength(const StepPadding& padding, int row, int64_t column) {
  return column == 0 ? 0 : padding.Tokens(row);
}
// A row that is not sampled.
constexpr int32_t PadSamplingParams(const StepPadding&, int, int64_t column) {
  using Words = std::array<int32_t, kDeviceSamplingWords>;
  return std::bit_cast<Words>(DeviceSamplingParams{})[static_cast<size_t>(column)];
}

constexpr std::array<StepArray, 9> kStepArrays{{
    {"tokens", &StepIndices::tokens, &StepSize::tokens, 1, 0, PadZero},
    {"positions", &StepIndices::positions, &StepSize::tokens, 1, 0, PadZero},
    {"kv_slots", &StepIndices::kv_slots, &StepSize::tokens, 1, 0, PadScratchSlot},
    {"image_slots", &StepIndices::image_slots, &StepSize::tokens, 1, 0, PadNoImage},
    {"row_starts", &StepIndices::row_starts, &StepSize::rows, 1, 1, PadRowStart},
    {"kv_starts", &StepIndices::kv_starts, &StepSize::rows, 2, 0, PadKvStart},
    {"kv_lengths", &StepIndices::kv_lengths, &StepSize::rows, 2, 0, PadKvLength},
    {"sample_rows", &StepIndices::sample_rows, &StepSize::samples, 1, 0, PadSample},
    {"sampling_params", &StepIndices::sampling_params, &StepSize::samples, kDeviceSamplingWords, 0,
     PadSamplingParams},
}};

inline std::vector<int32_t> StepIndices::Concatenated() const {
  std::vector<int32_t> all;
  for (const StepArray& array : kStepArrays) {
    const std::vector<int32_t>& values = this->*array.values;
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

// Places in the table. The decoder takes all arrays before the sampling params.
enum : size_t {
  kTokensArray,
  kPositionsArray,
  kKvSlotsArray,
  kImageSlotsArray,
  kRowStartsArray,
  kKvStartsArray,
  kKvLengthsArray,
  kSampleRowsArray,
  kSamplingParamsArray
};

}  // namespace idefics
