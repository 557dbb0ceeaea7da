// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx2 -mfma.
#include "predictor/ops/cpu/linear_avx2.h"

namespace idefics {
namespace {

struct Avx2 : Avx2Base {
  static constexpr bool kByteDot = false;
  static constexpr bool kStreamHints = true;
  static constexpr bool kWideBlocks = true;

  static Ints EvenBytes(Ints w) { return _mm256_and_si256(w, _mm256_set1_epi16(0xff)); }
  static Ints OddBytes(Ints w) { return _mm256_srli_epi16(w, 8); }
  static void DotShorts(Ints& sum, Ints w, Ints x) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
    Keep(sum);  // GCC 12 would add two products first, and spill the sums
  }
  static void DotTwoShorts(Ints& sum0, Ints& sum1, Ints w0, Ints w1, Ints x) {
    Ints product;
    asm("vpmaddwd %[w0], %[x], %[product]\n\t"
        "vpmaddwd %[w1], %[x], %[x]\n\t"
        "vpaddd %[product], %[sum0], %[sum0]\n\t"
        "vpaddd %[x], %[sum1], %[sum1]"
        : [sum0] "+x"(sum0), [sum1] "+x"(sum1), [product] "=&x"(product), [x] "+x"(x)
        : [w0] "x"(w0), [w1] "xm"(w1));
  }
  static Ints SignedShorts(Ints bytes) { return _mm256_sub_epi16(bytes, _mm256_set1_epi16(128)); }
  static void Keep(Ints& value) { asm("" : "+x"(value)); }
  static Ints MultiplyU4S8(Ints w, Ints x) { return _mm256_maddubs_epi16(w, x); }
  static Ints AddShorts(Ints a, Ints b) {
    a = _mm256_add_epi16(a, b);
    Keep(a);
    return a;
  }
  static Ints AddPairs(Ints shorts) { return _mm256_madd_epi16(shorts, _mm256_set1_epi16(1)); }
};

}  // namespace

const LinearKernels* LinearKernelsAvx2() {
  static constexpr LinearKernels kKernels = {"avx2",
                                             kF32Kernel<Avx2>,
                                             kBf16Kernel<Avx2>,
                                             kInt8Kernel<Avx2>,
                                             kInt4Kernel<Avx2>,
                                             /*int8_takes_shorts=*/true};
  return &kKernels;
}

}  // namespace idefics
