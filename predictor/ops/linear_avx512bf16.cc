// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx512bf16 and the flags of linear_avx512.cc: pairs of bf16 products in one
// instruction.
#include <immintrin.h>

#include "predictor/ops/linear_tile.h"

namespace idefics {
namespace {

struct DotBf16 {
  using Element = uint16_t;
  using Operand = __m512bh;  // 32 elements
  using Sum = __m512;        // lane i: products of elements 2i and 2i+1
  static constexpr int64_t kStep = 32;
  static constexpr int kTileM = 4;
  static constexpr int kTileN = 6;
  static Operand Load(const uint16_t* p) {
    return __builtin_bit_cast(__m512bh, _mm512_loadu_si512(p));
  }
  static Operand LoadTail(const uint16_t* p, int64_t count) {
    const auto first = static_cast<__mmask32>((uint64_t{1} << count) - 1);
    return __builtin_bit_cast(__m512bh, _mm512_maskz_loadu_epi16(first, p));
  }
  static void MultiplyAdd(Sum& sum, Operand x, Operand w) { sum = _mm512_dpbf16_ps(sum, x, w); }
  static float Total(Sum sum) { return _mm512_reduce_add_ps(sum); }
  static float Widen(uint16_t bits) { return WidenBf16(bits); }
  static uint16_t Narrow(float value) { return NarrowBf16(value); }
};

}  // namespace

const LinearKernels* LinearKernelsAvx512Bf16() {
  static const LinearKernels kernels = {"avx512bf16", LinearKernelsAvx512()->f32,
                                        LinearTiles<DotBf16>::Run};
  return &kernels;
}

}  // namespace idefics
