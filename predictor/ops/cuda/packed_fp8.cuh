// SPDX-License-Identifier: Apache-2.0
// Rows of e4m3, a multiple of 16 bytes apart; one scale for each column (f32). Lane (g, j) of a
// warp takes columns g, g + 8, g + 16 and g + 24 of its 32, one for each product, and 16 values of
// k of each; which of them meet in a product is free, as long as x has them in the same order.
#pragma once

#include <c10/util/Float8_e4m3fn.h>

#include "predictor/ops/cuda/packed_words.cuh"

namespace idefics::IDEFICS_TARGET {

// The bytes 0, 1 and 2, 3 of a word as exact pairs of T. (Where the chip has no conversion of its
// own, a NaN becomes 480.)
template <typename T>
__device__ __forceinline__ OperandB Fp8Pairs(uint32_t word) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  if constexpr (std::is_same_v<T, c10::Half>) {
    OperandB b;
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, low; cvt.rn.f16x2.e4m3x2 %1, high;}"
        : "=r"(b.pairs[0]), "=r"(b.pairs[1])
        : "r"(word));
    return b;
  }
#endif
  // Exponent and mantissa move to where T has them. The value is then too small by a power of two,
  // the difference of the two biases (120 or 8); that is true of subnormal numbers too.
  constexpr bool kBf16 = std::is_same_v<T, c10::BFloat16>;
  constexpr uint32_t kPower = kBf16 ? 0x7b807b80u : 0x5c005c00u;
  OperandB b{{LowHalves(word << 8, word), HighHalves(word << 8, word)}};
#pragma unroll
  for (uint32_t& pair : b.pairs) {
    const uint32_t small = (pair & 0x80008000u) | (pair & 0x7f007f00u) >> (kBf16 ? 4 : 1);
    pair = MultiplyPair<T>(small, kPower);
  }
  return b;
}

template <typename T>
struct PackedFp8 {
  static constexpr bool kTiled = false;  // fp8_product.cuh
  static constexpr int kValues = 4;
  static constexpr int kVectors = 4;
  static constexpr int kXPack = 4;
  static constexpr double kBusyBlocks = 1.0;  // as int8

  // From one row to the next, in words: a tile's rows of words are those of k and of the scale.
  __device__ __forceinline__ static int RowWords(const PackedWords& w) { return w.rows - 1; }

  __device__ __forceinline__ static const void* Source(const PackedWords& w, int half_tile,
                                                       int chunk, int vector) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int step = chunk * kChunkSteps + lane % 4 * 4;
    if (step >= w.steps) return nullptr;
    const int64_t column = half_tile * kHalfTileColumns + vector * 8 + lane / 4;
    return w.at + column * RowWords(w) + step;
  }

  template <int kRowTiles>
  __device__ __forceinline__ static void Multiply(const SkinnyArguments<T>& a, int chunk,
                                                  const Vec16B (&vectors)[kVectors],
                                                  HalfTileSums (&sums)[kRowTiles]) {
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      const int step = chunk * kChunkSteps + static_cast<int>(threadIdx.x) % 4 * 4 + word;
      OperandA x[kRowTiles];
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        x[tile] = RowPacks<T, 4>(a, tile, step * 4).Neighbours(0);
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const OperandB w = Fp8Pairs<T>(vectors[r].at[word]);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) MultiplyAdd<T>(sums[tile].at[r], x[tile], w);
      }
    }
  }

  __device__ __forceinline__ static float Finish(const PackedWords& w, float sum, int column) {
    return sum * Range(w, column, 0).step;
  }

  __device__ __forceinline__ static int ColumnOf(int r, int at) { return r * 8 + at; }
  __device__ __forceinline__ static uint32_t WordAt(const PackedWords& w, int column, int step) {
    return w.at[static_cast<int64_t>(column) * RowWords(w) + step];
  }
  __device__ __forceinline__ static float ValueAt(uint32_t word, int at) {
    return static_cast<float>(c10::Float8_e4m3fn(static_cast<uint8_t>(word >> (at * 8)),
                                                 c10::Float8_e4m3fn::from_bits()));
  }
  __device__ __forceinline__ static WeightRange Range(const PackedWords& w, int column, int /*k*/) {
    return {static_cast<const float*>(w.scale)[column], 0.0f};
  }
};

}  // namespace idefics::IDEFICS_TARGET
