// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx512bf16 and the flags of linear_avx512.cc: one instruction does two products
// of bf16.
#include "predictor/ops/cpu/linear_avx512.h"

namespace idefics {
namespace {

struct Avx512Bf16 : Avx512Base {
  static void DotBf16(Floats& sum, Ints w, Ints x) {
    sum = _mm512_dpbf16_ps(sum, __builtin_bit_cast(__m512bh, w), __builtin_bit_cast(__m512bh, x));
  }
};

}  // namespace

const LinearKernels* LinearKernelsAvx512Bf16() {
  static const LinearKernels kernels = {"avx512_bf16",
                                        LinearKernelsAvx512Vnni()->f32,
                                        kBf16Kernel<Avx512Bf16>,
                                        LinearKernelsAvx512Vnni()->int8,
                                        LinearKernelsAvx512Vnni()->int4,
                                        LinearKernelsAvx512Vnni()->int8_takes_shorts};
  return &kernels;
}

}  // namespace idefics
