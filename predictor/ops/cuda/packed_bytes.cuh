// SPDX-License-Identifier: Apache-2.0
// Words of four neighbouring k, one byte each: what int8 and fp8 have in common.
#pragma once

#include "predictor/ops/cuda/packed_words.cuh"

namespace idefics::IDEFICS_TARGET {

// A form has Pairs(word), the word as pairs of T; OrderX(x), x in the same order of k; and Range,
// which holds a column's scale.
template <typename Form, typename T>
struct PackedBytes {
  static constexpr int kValues = 4;
  static constexpr int kVectors = 4;
  static constexpr int kXPack = 4;

  __device__ __forceinline__ static const void* Source(const PackedWords& w, int half_tile,
                                                       int chunk, int vector) {
    return WordsAt(w, half_tile,
                   chunk * kChunkSteps + vector * 4 + static_cast<int>(threadIdx.x) % 4);
  }

  template <int kRowTiles>
  __device__ __forceinline__ static void Multiply(const SkinnyArguments<T>& a, int chunk,
                                                  const Vec16B (&vectors)[kVectors],
                                                  HalfTileSums (&sums)[kRowTiles]) {
#pragma unroll
    for (int vector = 0; vector < kVectors; ++vector) {
      const int step = chunk * kChunkSteps + vector * 4 + static_cast<int>(threadIdx.x) % 4;
      OperandA x[kRowTiles];
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        x[tile] = Form::OrderX(RowPacks<T, 4>(a, tile, step * 4));
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const OperandB w = Form::Pairs(vectors[vector].at[r]);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) MultiplyAdd<T>(sums[tile].at[r], x[tile], w);
      }
    }
  }

  __device__ __forceinline__ static float Finish(const PackedWords& w, float sum, int column) {
    return sum * Form::Range(w, column, 0).step;
  }
};

}  // namespace idefics::IDEFICS_TARGET
