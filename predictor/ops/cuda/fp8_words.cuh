// SPDX-License-Identifier: Apache-2.0
// Words of four e4m3: neighbouring k; behind the last step of a tile the scale of each column, f32.
#pragma once

#include <c10/util/Float8_e4m3fn.h>

#include "predictor/ops/cuda/linear_chunk.cuh"

namespace idefics::IDEFICS_TARGET {

// The bytes 0, 1 and 2, 3 of a word as exact pairs of T. (Without the chip's own conversion a NaN
// is 480.)
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
  // Exponent and mantissa where T has them: too small by 2 to the difference of the two biases, 120
  // or 8, subnormal numbers too.
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
struct Fp8Words {
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
        x[tile] = RowPacks<T, 4>(a, tile, step * 4).Neighbours(0);
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const OperandB w = Fp8Pairs<T>(slots[slot].at[r]);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) MultiplyAdd<T>(sums[tile].at[r], x[tile], w);
      }
    }
  }

  __device__ __forceinline__ static float Finish(const WeightWords& w, float sum, int column) {
    return sum * Range(w, column, 0).step;
  }

  __device__ __forceinline__ static float Number(uint32_t word, int at) {
    return static_cast<float>(c10::Float8_e4m3fn(static_cast<uint8_t>(word >> (at * 8)),
                                                 c10::Float8_e4m3fn::from_bits()));
  }
  __device__ __forceinline__ static WeightRange Range(const WeightWords& w, int column, int /*k*/) {
    float scale;
    memcpy(&scale, ColumnWords(w, column) + w.steps * kTileColumns, sizeof(scale));
    return {scale, 0.0f};
  }
};

}  // namespace idefics::IDEFICS_TARGET
