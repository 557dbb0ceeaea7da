// SPDX-License-Identifier: Apache-2.0
// Finds a token's row in a ragged step, and the keys that it sees.
#pragma once

#include "predictor/ops/cuda/attend_keys.cuh"

namespace idefics::IDEFICS_TARGET {

// Rows of up to this many tokens (decode, speculation) go token by token, longer ones in tiles.
constexpr int kShortRow = 4;
constexpr int kMaxTileDim = 128;  // wider heads go token by token in all rows

struct Ragged {
  const int32_t* row_starts;  // [rows + 1]
  const int32_t* kv_starts;   // [rows, 2]: slots of the first shared and the first own key
  const int32_t* kv_lengths;  // [rows, 2]: shared keys, all keys; the row's tokens among them
  int tokens;
  int rows;
};

struct RowSpan {
  int first;   // token
  int count;   // tokens
  int before;  // keys before the row's first token
  KeySlots slots;
};

__device__ __forceinline__ RowSpan SpanOf(const Ragged& ragged, int row) {
  const int first = ragged.row_starts[row];
  const int count = ragged.row_starts[row + 1] - first;
  const int shared = ragged.kv_lengths[2 * row];
  return {first, count, ragged.kv_lengths[2 * row + 1] - count,
          KeySlots{shared, ragged.kv_starts[2 * row], ragged.kv_starts[2 * row + 1] - shared}};
}

// The last row with start(row) <= index, where start never falls and start(0) == 0.
template <typename Start>
__device__ __forceinline__ int FindRow(int index, int rows, const Start& start) {
  int low = 0;
  int high = rows;  // start(low) <= index < start(high), with start(rows) = infinity
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (start(middle) <= index) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ __forceinline__ int RowOfToken(const Ragged& ragged, int token) {
  if (token < ragged.rows && ragged.row_starts[token] == token &&
      ragged.row_starts[token + 1] == token + 1) {
    return token;  // plain decoding: no search
  }
  return FindRow(token, ragged.rows, [&](int row) { return ragged.row_starts[row]; });
}

}  // namespace idefics::IDEFICS_TARGET
