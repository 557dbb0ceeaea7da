// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx512bf16 -mavx512vnni and the flags of linear_avx512.cc: one instruction does
// pairs of bf16 products, or four 8-bit products.
#include "predictor/ops/cpu/linear_avx512.h"

namespace idefics {
namespace {

struct Avx512Vnni : Avx512Base {
  static void DotBf16(Floats& sum, Ints w, Ints x) {
    sum = _mm512_dpbf16_ps(sum, __builtin_bit_cast(__m512bh, w), __builtin_bit_cast(__m512bh, x));
  }
  static void DotU8S8(Ints& sum, Ints w, Ints x) {
    sum = (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
  }
};

}  // namespace

const LinearKernels* LinearKernelsAvx512Vnni() {
  static const LinearKernels kernels = {"avx512_vnni", LinearKernelsAvx512()->f32,
                                        kBf16Kernel<Avx512Vnni>, kInt8Kernel<Avx512Vnni>,
                                        kInt4Kernel<Avx512Vnni>};
  return &kernels;
}

}  // namespace idefics
