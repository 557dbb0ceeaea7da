// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq.
#include "predictor/ops/cpu/linear_avx512.h"

namespace idefics {
namespace {

struct Avx512 : Avx512Base {
  static constexpr bool kByteDot = false;

  static Ints EvenBytes(Ints w) { return w & 0x00ff00ff; }
  static Ints OddBytes(Ints w) { return (Ints)_mm512_srli_epi16((__m512i)w, 8); }
  static void DotShorts(Ints& sum, Ints w, Ints x) {
    sum += (Ints)_mm512_madd_epi16((__m512i)w, (__m512i)x);
    asm("" : "+v"(sum));  // in a register: GCC 12 would add two products first, and spill the sums
  }
  static Ints MultiplyU4S8(Ints w, Ints x) {
    return (Ints)_mm512_maddubs_epi16((__m512i)w, (__m512i)x);
  }
  static Ints AddShorts(Ints a, Ints b) {
    a = (Ints)_mm512_add_epi16((__m512i)a, (__m512i)b);
    asm("" : "+v"(a));  // as above
    return a;
  }
  static Ints AddPairs(Ints shorts) {
    return (Ints)_mm512_madd_epi16((__m512i)shorts, _mm512_set1_epi16(1));
  }
};

}  // namespace

const LinearKernels* LinearKernelsAvx512() {
  static constexpr LinearKernels kKernels = {"avx512",
                                             kF32Kernel<Avx512>,
                                             kBf16Kernel<Avx512>,
                                             kInt8Kernel<Avx512>,
                                             kInt4Kernel<Avx512>,
                                             /*int8_takes_shorts=*/true};
  return &kKernels;
}

}  // namespace idefics
