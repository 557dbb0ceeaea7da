// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx512bf16 -mavx512vnni and the flags of linear_avx512.cc: pairs of bf16 products
// and quads of 8-bit products in one instruction.
#include "predictor/ops/linear_avx512.h"

namespace idefics {
namespace {

struct Avx512Dot : Avx512Base {
  static void DotBf16(Floats& sum, Ints w, Ints x) {
    sum = _mm512_dpbf16_ps(sum, __builtin_bit_cast(__m512bh, w), __builtin_bit_cast(__m512bh, x));
  }
  static void DotU8S8(Ints& sum, Ints w, Ints x) {
    sum = (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
  }
};

}  // namespace

const LinearKernels* LinearKernelsAvx512Dot() {
  static const LinearKernels kernels = {"avx512dot", LinearKernelsAvx512()->f32,
                                        kBf16Kernel<Avx512Dot>, kInt8Kernel<Avx512Dot>,
                                        kInt4Kernel<Avx512Dot>};
  return &kernels;
}

}  // namespace idefics
