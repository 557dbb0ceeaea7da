// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx512vnni and the flags of linear_avx512.cc: one instruction does four products
// of bytes.
#include "predictor/ops/cpu/linear_avx512.h"

namespace idefics {
namespace {

struct Avx512Vnni : Avx512Base {
  static constexpr bool kByteDot = true;

  static void DotU8S8(Ints& sum, Ints w, Ints x) {
    sum = (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
  }
};

}  // namespace

const LinearKernels* LinearKernelsAvx512Vnni() {
  static const LinearKernels kernels = {
      "avx512_vnni",           LinearKernelsAvx512()->f32, LinearKernelsAvx512()->bf16,
      kInt8Kernel<Avx512Vnni>, kInt4Kernel<Avx512Vnni>,    /*int8_takes_shorts=*/false};
  return &kernels;
}

}  // namespace idefics
