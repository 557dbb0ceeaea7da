// SPDX-License-Identifier: Apache-2.0
// What the forms of packed weights (../packed_weight.h) share as operands of a tensor core. A form
// (packed_*.cuh) gives the addresses of a chunk's words and multiplies a chunk: 16 steps of 32
// columns, half a tile. Lane (g, j) of a warp, g = lane / 4 and j = lane % 4, takes columns
// 4g … 4g + 3; its word of column 4g + r is column g of product r.
#pragma once

#include <cstring>

#include "predictor/ops/cuda/tensor_core.cuh"
#include "weights/linear_layout.h"

namespace idefics::IDEFICS_TARGET {

constexpr int kHalfTileColumns = 32;  // in each step: one cache line of words
constexpr int kChunkSteps = 16;
constexpr int kTileRows = 16;  // rows of x in one product

using Vec16B = Pack<uint32_t, 4>;

// A stored weight as 32-bit words.
struct PackedWords {
  const uint32_t* at;  // [tiles, rows, 64]
  const void* scale;   // of the form's own type
  int k;
  int steps;  // words of a column
  int rows;   // rows of words in a tile: the steps, then what the form stores after them
};

template <typename T>
struct SkinnyArguments {
  const T* x;  // [rows, k]
  PackedWords w;
  T* out;  // [rows, n]
  int rows;
  int n;
  bool packed;  // whether rows of x are whole packs of the form's kXPack
};

// Sums of 16 rows of x times 32 columns. Column c of product r is column 4c + r.
struct HalfTileSums {
  TileSums at[4];
};

// The word of step `step` of this lane's first column in a half tile, or null after the last step.
__device__ __forceinline__ const void* WordsAt(const PackedWords& w, int half_tile, int step) {
  if (step >= w.steps) return nullptr;
  const int64_t row = static_cast<int64_t>(half_tile / 2) * w.rows + step;
  return w.at + row * kTileColumns + half_tile % 2 * kHalfTileColumns + threadIdx.x % 32 / 4 * 4;
}

// Where tiles hold a column's words, and which column of the lane's 32 is column `at` of product r.
struct TiledWords {
  __device__ __forceinline__ static uint32_t WordAt(const PackedWords& w, int column, int step) {
    constexpr int kColumns = static_cast<int>(kTileColumns);
    const int64_t row = static_cast<int64_t>(column / kColumns) * w.rows + step;
    return w.at[row * kColumns + column % kColumns];
  }
  __device__ __forceinline__ static int ColumnOf(int r, int at) { return at * 4 + r; }
};

// W = step · (number of the word) + minimum.
struct WeightRange {
  float step;
  float minimum;
};

// x[row][first …] of the lane's two rows, g and g + 8, of a tile of rows.
template <typename T, int kCount>
struct RowPacks {
  Pack<T, kCount> at[2];

  __device__ __forceinline__ RowPacks(const SkinnyArguments<T>& a, int row_tile, int first) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row_tile * kTileRows + static_cast<int>(threadIdx.x) % 32 / 4 + half * 8;
      at[half] = LoadPack<kCount>(a.x + static_cast<int64_t>(row) * a.w.k, first,
                                  row < a.rows ? a.w.k : 0, a.packed);
    }
  }

  // Of rows that have been copied: where each begins, aligned to a pack.
  __device__ __forceinline__ RowPacks(const T* row, const T* eighth_after)
      : at{*reinterpret_cast<const Pack<T, kCount>*>(row),
           *reinterpret_cast<const Pack<T, kCount>*>(eighth_after)} {}

  __device__ __forceinline__ uint32_t Pair(int half, int pair) const {
    uint32_t word;
    memcpy(&word, &at[half].at[pair * 2], sizeof(word));
    return word;
  }
  // Numbers first … first + 3 as (0, 1) and (2, 3).
  __device__ __forceinline__ OperandA Neighbours(int first) const {
    return {
        {Pair(0, first / 2), Pair(1, first / 2), Pair(0, first / 2 + 1), Pair(1, first / 2 + 1)}};
  }
  // Numbers first … first + 3 as (0, 2) and (1, 3).
  __device__ __forceinline__ OperandA Alternate(int first) const {
    const OperandA a = Neighbours(first);
    return {{LowHalves(a.pairs[0], a.pairs[2]), LowHalves(a.pairs[1], a.pairs[3]),
             HighHalves(a.pairs[0], a.pairs[2]), HighHalves(a.pairs[1], a.pairs[3])}};
  }
};

}  // namespace idefics::IDEFICS_TARGET
