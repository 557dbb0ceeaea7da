// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq.
#include "predictor/ops/cpu/linear_avx512.h"

namespace idefics {
namespace {

struct Avx512 : Avx512Base {
  static void DotBf16(Floats& sum, Ints w, Ints x) {
    constexpr auto kOdd = static_cast<int32_t>(0xffff0000);
    DotF32(sum, w << 16, x << 16);
    DotF32(sum, w & kOdd, x & kOdd);
  }
  // u8 · s8 as 16-bit products of the even and the odd bytes: maddubs would saturate.
  static void DotU8S8(Ints& sum, Ints weights, Ints values) {
    const auto w = (__m512i)weights;
    const auto x = (__m512i)values;
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(w, _mm512_set1_epi16(0xff)),
                                           _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(w, 8), _mm512_srai_epi16(x, 8));
    sum += (Ints)_mm512_add_epi32(even, odd);
  }
};

}  // namespace

const LinearKernels* LinearKernelsAvx512() {
  static constexpr LinearKernels kKernels = {"avx512", kF32Kernel<Avx512>, kBf16Kernel<Avx512>,
                                             kInt8Kernel<Avx512>, kInt4Kernel<Avx512>};
  return &kKernels;
}

}  // namespace idefics
