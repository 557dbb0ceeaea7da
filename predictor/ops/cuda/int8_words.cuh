// SPDX-License-Identifier: Apache-2.0
// Words of four int8: neighbouring k, each plus 128; a scale a column (f32 [tiles, 64]).
#pragma once

#include "predictor/ops/cuda/linear_chunk.cuh"

namespace idefics::IDEFICS_TARGET {

// The bytes 0, 2 and 1, 3 of a word, each less 128, as exact pairs of T.
template <typename T>
__device__ __forceinline__ OperandB SignedBytes(uint32_t word) {
  OperandB b;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t bytes = word >> (i * 8);
    if constexpr (std::is_same_v<T, c10::BFloat16>) {
      // 0x4300 is 128 and has seven bits left: 128 + low bits, less 128 or, without the top bit,
      // 256.
      b.pairs[i] =
          SubtractPair<T>((bytes & 0x007f007fu) | 0x43004300u, (bytes & 0x00800080u) ^ 0x43804380u);
    } else {
      b.pairs[i] = SubtractPair<T>((bytes & 0x00ff00ffu) | 0x64006400u, 0x64806480u);  // 1024 + u
    }
  }
  return b;
}

template <typename T>
struct Int8Words {
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
        x[tile] = RowPacks<T, 4>(a, tile, step * 4).Alternate(0);
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const OperandB w = SignedBytes<T>(slots[slot].at[r]);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) MultiplyAdd<T>(sums[tile].at[r], x[tile], w);
      }
    }
  }

  __device__ __forceinline__ static float Finish(const WeightWords& w, float sum, int column) {
    return sum * static_cast<const float*>(w.scale)[column];
  }

  __device__ __forceinline__ static float Number(uint32_t word, int at) {
    return static_cast<float>(static_cast<int>(word >> (at * 8) & 255u) - 128);
  }
  __device__ __forceinline__ static WeightRange Range(const WeightWords& w, int column, int /*k*/) {
    return {static_cast<const float*>(w.scale)[column], 0.0f};
  }
};

}  // namespace idefics::IDEFICS_TARGET
