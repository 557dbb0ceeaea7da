// SPDX-License-Identifier: Apache-2.0
// Words of four int8 of neighbouring k, each plus 128; one scale per column (f32 [tiles, 64]).
#pragma once

#include "predictor/ops/cuda/packed_words.cuh"

namespace idefics::IDEFICS_TARGET {

// The bytes 0, 2 and 1, 3 of a word, each less 128, as exact pairs of T.
template <typename T>
__device__ __forceinline__ OperandB SignedBytes(uint32_t word) {
  OperandB b;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t bytes = word >> (i * 8);
    if constexpr (std::is_same_v<T, c10::BFloat16>) {
      // 0x4300 is 128 with seven bits to spare: it becomes 128 + low bits, from which 128 is
      // subtracted, or 256 where the top bit is not set.
      b.pairs[i] =
          SubtractPair<T>((bytes & 0x007f007fu) | 0x43004300u, (bytes & 0x00800080u) ^ 0x43804380u);
    } else {
      b.pairs[i] = SubtractPair<T>((bytes & 0x00ff00ffu) | 0x64006400u, 0x64806480u);  // 1024 + u
    }
  }
  return b;
}

template <typename T>
struct PackedInt8 : TiledWords {
  static constexpr bool kTiled = sizeof(T) == 2;  // linear_tiled.cuh takes it

  // A column's scale is applied to its sum.
  struct StageRange {
    __device__ __forceinline__ StageRange(const PackedWords& /*w*/, int /*half_tile*/, int /*k*/) {}
  };
  __device__ __forceinline__ static OperandB StagePairs(uint32_t word, int /*part*/,
                                                        const StageRange& /*range*/, int /*r*/) {
    return SignedBytes<T>(word);
  }

  static constexpr int kValues = 4;
  static constexpr int kVectors = 4;
  static constexpr int kXPack = 4;
  static constexpr double kBusyBlocks = 1.0;  // unpacking takes half of a processor's instructions

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
        x[tile] = RowPacks<T, 4>(a, tile, step * 4).Alternate(0);
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const OperandB w = SignedBytes<T>(vectors[vector].at[r]);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) MultiplyAdd<T>(sums[tile].at[r], x[tile], w);
      }
    }
  }

  __device__ __forceinline__ static float Finish(const PackedWords& w, float sum, int column) {
    return sum * Range(w, column, 0).step;
  }

  __device__ __forceinline__ static float ValueAt(uint32_t word, int at) {
    return static_cast<float>(static_cast<int>(word >> (at * 8) & 255u) - 128);
  }
  __device__ __forceinline__ static WeightRange Range(const PackedWords& w, int column, int /*k*/) {
    return {static_cast<const float*>(w.scale)[column], 0.0f};
  }
};

}  // namespace idefics::IDEFICS_TARGET
