// SPDX-License-Identifier: Apache-2.0
// Words of four e4m3 of neighbouring k. After the last step of a tile comes each column's scale,
// f32.
#pragma once

#include <c10/util/Float8_e4m3fn.h>

#include "predictor/ops/cuda/packed_bytes.cuh"

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
struct PackedFp8 : PackedBytes<PackedFp8<T>, T> {
  __device__ __forceinline__ static OperandB Pairs(uint32_t word) { return Fp8Pairs<T>(word); }
  __device__ __forceinline__ static OperandA OrderX(const RowPacks<T, 4>& x) {
    return x.Neighbours(0);
  }

  __device__ __forceinline__ static float ValueAt(uint32_t word, int at) {
    return static_cast<float>(c10::Float8_e4m3fn(static_cast<uint8_t>(word >> (at * 8)),
                                                 c10::Float8_e4m3fn::from_bits()));
  }
  __device__ __forceinline__ static WeightRange Range(const PackedWords& w, int column, int /*k*/) {
    float scale;
    memcpy(&scale, ColumnWords(w, column) + w.steps * kTileColumns, sizeof(scale));
    return {scale, 0.0f};
  }
};

}  // namespace idefics::IDEFICS_TARGET
