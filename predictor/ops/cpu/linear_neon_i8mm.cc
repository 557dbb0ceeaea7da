// SPDX-License-Identifier: Apache-2.0
// Compiled with -march=armv8.2-a+dotprod+i8mm: one instruction multiplies eight bytes of two
// columns with those of two rows.
#include "predictor/ops/cpu/linear_neon.h"

namespace idefics {
namespace {

struct NeonI8mm : NeonBase {
  static constexpr bool kSignedDot = false;
  static constexpr bool kWideBlocks = false;
  static constexpr bool kRowPairs = true;
  static constexpr bool kStreamHints = false;

  static void DotU8S8(Ints& sum, Ints w, Ints x) {
    sum = vusdotq_s32(sum, vreinterpretq_u8_s32(w), vreinterpretq_s8_s32(x));
  }
  static Ints TwoRows(const uint32_t* first, const uint32_t* second) {
    return vreinterpretq_s32_u32(vcombine_u32(vld1_u32(first), vld1_u32(second)));
  }
  static Ints ZipLow(Ints a, Ints b) { return vzip1q_s32(a, b); }
  static Ints ZipHigh(Ints a, Ints b) { return vzip2q_s32(a, b); }
  static void DotPairs(Ints& sum, Ints w, Ints x) {
    sum = vusmmlaq_s32(sum, vreinterpretq_u8_s32(w), vreinterpretq_s8_s32(x));
  }
  static Ints FirstOfPairs(Ints low, Ints high) { return vuzp1q_s32(low, high); }
  static Ints SecondOfPairs(Ints low, Ints high) { return vuzp2q_s32(low, high); }
};

}  // namespace

const LinearKernels* LinearKernelsNeonI8mm() {
  static const LinearKernels kernels = {"neon_i8mm",
                                        LinearKernelsNeonDotprod()->f32,
                                        LinearKernelsNeonDotprod()->bf16,
                                        kInt8Kernel<NeonI8mm>,
                                        kInt4Kernel<NeonI8mm>,
                                        /*int8_takes_shorts=*/false};
  return &kernels;
}

}  // namespace idefics
