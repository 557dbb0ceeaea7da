// SPDX-License-Identifier: Apache-2.0
// Finds the row of a token, or of a tile of tokens, in a ragged step, and the keys that it sees.
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

// Neighbouring tokens of a row.
struct RowSpan {
  int first;   // token
  int count;   // tokens
  int before;  // keys of the row before the first token
  KeySlots slots;
};

// All of them.
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

// Tiles of row r are numbered from row_starts[r] / kSize + r. That leaves room for each row's
// tiles, and the host can size the grid without reading the row starts, which are on the device.
template <int kSize>
unsigned NumTiles(const Ragged& ragged) {
  return static_cast<unsigned>(ragged.tokens / kSize + ragged.rows);
}

// The tile of this block, of a grid with NumTiles<kSize> in x; count < 1: none, or its row is
// short. Those with the most keys, a prompt's last ones, come first.
template <int kSize>
__device__ __forceinline__ RowSpan TileOfBlock(const Ragged& ragged) {
  const auto first_tile = [&](int row) { return ragged.row_starts[row] / kSize + row; };
  const int tile = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int row_index = FindRow(tile, ragged.rows, first_tile);
  const RowSpan row = SpanOf(ragged, row_index);
  const int query = (tile - first_tile(row_index)) * kSize;
  const int left = row.count <= kShortRow ? 0 : row.count - query;
  return {row.first + query, left < kSize ? left : kSize, row.before + query, row.slots};
}

}  // namespace idefics::IDEFICS_TARGET
