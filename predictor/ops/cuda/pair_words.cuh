// SPDX-License-Identifier: Apache-2.0
// Words of two bf16 or f16: neighbouring k.
#pragma once

#include "predictor/ops/cuda/linear_chunk.cuh"

namespace idefics::IDEFICS_TARGET {

template <typename T>
struct PairWords {
  static constexpr int kValues = 2;
  static constexpr int kSlots = 4;
  static constexpr int kXPack = 4;

  // Neighbouring steps, so that a lane's four k follow each other.
  __device__ __forceinline__ static const void* Source(const WeightWords& w, int unit, int chunk,
                                                       int slot) {
    const int j = static_cast<int>(threadIdx.x) % 4;
    return WordsAt(w, unit, chunk * kChunkSteps + slot / 2 * 8 + j * 2 + slot % 2);
  }

  template <int kRowTiles>
  __device__ __forceinline__ static void Multiply(const FewRowsArguments<T>& a, int chunk,
                                                  const Slot (&slots)[kSlots],
                                                  UnitSums (&sums)[kRowTiles]) {
    const int j = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int first = (chunk * kChunkSteps + half * 8 + j * 2) * 2;
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        const OperandA x = RowPacks<T, 4>(a, tile, first).Neighbours(0);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          MultiplyAdd<T>(sums[tile].at[r], x, {{slots[half * 2].at[r], slots[half * 2 + 1].at[r]}});
        }
      }
    }
  }

  __device__ __forceinline__ static float Finish(const WeightWords& /*w*/, float sum,
                                                 int /*column*/) {
    return sum;
  }

  __device__ __forceinline__ static float Number(uint32_t word, int at) {
    T halves[2];
    memcpy(halves, &word, sizeof(word));
    return static_cast<float>(halves[at]);
  }
  __device__ __forceinline__ static WeightRange Range(const WeightWords& /*w*/, int /*column*/,
                                                      int /*k*/) {
    return {1.0f, 0.0f};
  }
};

}  // namespace idefics::IDEFICS_TARGET
