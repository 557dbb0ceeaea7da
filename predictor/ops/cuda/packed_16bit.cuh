// SPDX-License-Identifier: Apache-2.0
// Words of two bf16 or f16 of neighbouring k.
#pragma once

#include "predictor/ops/cuda/packed_words.cuh"

namespace idefics::IDEFICS_TARGET {

template <typename T>
struct Packed16Bit : TiledWords {
  static constexpr bool kTiled = false;  // cuBLAS takes W as it is
  static constexpr int kValues = 2;
  static constexpr int kVectors = 4;
  static constexpr int kXPack = 4;
  static constexpr double kBusyBlocks = 0.55;  // 26 KB on their way, of the 48 of a block

  // Neighbouring steps, so that a lane's four k are contiguous.
  __device__ __forceinline__ static const void* Source(const PackedWords& w, int half_tile,
                                                       int chunk, int vector) {
    const int j = static_cast<int>(threadIdx.x) % 4;
    return WordsAt(w, half_tile, chunk * kChunkSteps + vector / 2 * 8 + j * 2 + vector % 2);
  }

  template <int kRowTiles>
  __device__ __forceinline__ static void Multiply(const SkinnyArguments<T>& a, int chunk,
                                                  const Vec16B (&vectors)[kVectors],
                                                  HalfTileSums (&sums)[kRowTiles]) {
    const int j = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int first = (chunk * kChunkSteps + half * 8 + j * 2) * 2;
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        const OperandA x = RowPacks<T, 4>(a, tile, first).Neighbours(0);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          MultiplyAdd<T>(sums[tile].at[r], x,
                         {{vectors[half * 2].at[r], vectors[half * 2 + 1].at[r]}});
        }
      }
    }
  }

  __device__ __forceinline__ static float Finish(const PackedWords& /*w*/, float sum,
                                                 int /*column*/) {
    return sum;
  }

  __device__ __forceinline__ static float ValueAt(uint32_t word, int at) {
    T halves[2];
    memcpy(halves, &word, sizeof(word));
    return static_cast<float>(halves[at]);
  }
  __device__ __forceinline__ static WeightRange Range(const PackedWords& /*w*/, int /*column*/,
                                                      int /*k*/) {
    return {1.0f, 0.0f};
  }
};

}  // namespace idefics::IDEFICS_TARGET
