// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx2 -mfma -mavxvnni: products of bytes as linear_avx512_vnni.cc has them, in 256
// bits.
#include "predictor/ops/cpu/linear_avx2.h"

namespace idefics {
namespace {

struct AvxVnni : Avx2Base {
  static constexpr bool kByteDot = true;

  static void DotU8S8(Ints& sum, Ints w, Ints x) { sum = _mm256_dpbusd_epi32(sum, w, x); }
};

}  // namespace

const LinearKernels* LinearKernelsAvxVnni() {
  static const LinearKernels kernels = {
      "avx_vnni",           LinearKernelsAvx2()->f32, LinearKernelsAvx2()->bf16,
      kInt8Kernel<AvxVnni>, kInt4Kernel<AvxVnni>,     /*int8_takes_shorts=*/false};
  return &kernels;
}

}  // namespace idefics
