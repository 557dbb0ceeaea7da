// SPDX-License-Identifier: Apache-2.0
// What the kernels of 128 bits for ARM share. Included only by linear_neon_*.cc, whose anonymous
// namespaces derive from it; see linear_tile.h.
#pragma once

#include <arm_neon.h>

#include "predictor/ops/cpu/linear_loops.h"

namespace idefics {
namespace {

struct NeonBase {
  using Floats = float32x4_t;
  using Ints = int32x4_t;
  static constexpr int kLanes = 4;
  static constexpr bool kByteDot = true;
  static constexpr int kMaxRows = 6;
  static constexpr int kBlockRows = 6;
  static constexpr int64_t kFloatBlockSteps = 128;  // the L1 cache
  static constexpr int Vectors(int rows) { return rows == 1 ? 16 : rows == 2 ? 8 : 4; }

  static Floats Load(const float* p) { return vld1q_f32(p); }
  static void Store(float* p, Floats value) { vst1q_f32(p, value); }
  static Floats ZeroFloats() { return vdupq_n_f32(0); }
  static Floats SetFloat(float value) { return vdupq_n_f32(value); }
  static Ints SetInt(int32_t value) { return vdupq_n_s32(value); }
  static Floats ToFloats(Ints value) { return vcvtq_f32_s32(value); }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
  static Floats Multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
  static Floats WidenBf16(const uint16_t* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
  }
  static Ints LoadWords(const uint32_t* p) { return vreinterpretq_s32_u32(vld1q_u32(p)); }
  static Ints BroadcastWord(const uint32_t* p) { return vreinterpretq_s32_u32(vld1q_dup_u32(p)); }
  static void DotF32(Floats& sum, Ints w, Ints x) {
    sum = vfmaq_f32(sum, vreinterpretq_f32_s32(w), vreinterpretq_f32_s32(x));
  }
  static void DotBf16(Floats& sum, Ints w, Ints x) {
    const Ints odd = vdupq_n_s32(static_cast<int32_t>(0xffff0000));
    DotF32(sum, vshlq_n_s32(w, 16), vshlq_n_s32(x, 16));
    DotF32(sum, vandq_s32(w, odd), vandq_s32(x, odd));
  }
  static Ints AddInts(Ints a, Ints b) { return vaddq_s32(a, b); }
  static Ints LowNibbles(Ints w) { return vandq_s32(w, vdupq_n_s32(0x0f0f0f0f)); }
  static Ints HighNibbles(Ints w) {
    return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(w), 4));
  }
};

}  // namespace
}  // namespace idefics
