// SPDX-License-Identifier: Apache-2.0
// Words of four neighbouring k in a byte each: what int8 and fp8 have in common.
#pragma once

#include "predictor/ops/cuda/linear_chunk.cuh"

namespace idefics::IDEFICS_TARGET {

// Form::Pairs: a word as pairs of T; Form::Rows: x in the same order of k; Form::Range: a column's
// scale.
template <typename Form, typename T>
struct ByteWords {
  static constexpr int kValues = 4;
  static constexpr int kSlots = 4;
  static constexpr int kXPack = 4;

  __device__ __forceinline__ static const void* Source(const WeightWords& w, int unit, int chunk,
                                                       int slot) {
    return WordsAt(w, unit, chunk * kChunkSteps + slot * 4 + static_cast<int>(threadIdx.x) % 4);
  }

  template <int kRowTiles>
  __device__ __forceinline__ static void Multiply(const FewRowsArguments<T>& a, int chunk,
                                                  const Slot (&slots)[kSlots],
                                                  UnitSums (&sums)[kRowTiles]) {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      const int step = chunk * kChunkSteps + slot * 4 + static_cast<int>(threadIdx.x) % 4;
      OperandA x[kRowTiles];
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        x[tile] = Form::Rows(RowPacks<T, 4>(a, tile, step * 4));
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const OperandB w = Form::Pairs(slots[slot].at[r]);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) MultiplyAdd<T>(sums[tile].at[r], x[tile], w);
      }
    }
  }

  __device__ __forceinline__ static float Finish(const WeightWords& w, float sum, int column) {
    return sum * Form::Range(w, column, 0).step;
  }
};

}  // namespace idefics::IDEFICS_TARGET
