// SPDX-License-Identifier: Apache-2.0
// Compiled with -march=armv8.2-a+dotprod: one instruction does four products of signed bytes a
// lane.
#include "predictor/ops/cpu/linear_neon.h"

namespace idefics {
namespace {

struct NeonDotprod : NeonBase {
  static constexpr bool kSignedDot = true;
  static constexpr bool kWideBlocks = false;
  static constexpr bool kRowPairs = false;
  static constexpr bool kStreamHints = false;

  static Ints SignedBytes(Ints w) { return veorq_s32(w, vdupq_n_s32(int32_t(0x80808080))); }
  static void DotS8S8(Ints& sum, Ints w, Ints x) {
    sum = vdotq_s32(sum, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x));
  }
};

}  // namespace

const LinearKernels* LinearKernelsNeonDotprod() {
  static constexpr LinearKernels kKernels = {"neon_dotprod",
                                             kF32Kernel<NeonDotprod>,
                                             kBf16Kernel<NeonDotprod>,
                                             kInt8Kernel<NeonDotprod>,
                                             kInt4Kernel<NeonDotprod>,
                                             /*int8_takes_shorts=*/false};
  return &kKernels;
}

}  // namespace idefics
