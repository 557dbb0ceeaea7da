// SPDX-License-Identifier: Apache-2.0
// Numbers of the CPU's row arithmetic: elements widened to f32 and rounded back, how many partial
// sums a row is added up in, and e^x without a call, so that a loop of it becomes vectors. A row's
// sum has the same order wherever it is computed.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <bit>
#include <cstdint>

#include "predictor/ops/cpu/inlining.h"

namespace idefics {

constexpr int64_t kLanes = 32;  // independent partial sums, so that the loop becomes vectors

inline float Wide(float x) { return x; }
inline float Wide(c10::BFloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.x) << 16);
}
inline float Wide(c10::Half x) { return static_cast<float>(x); }

// Rounds to the nearest, even; NaN stays NaN.
template <typename T>
inline T Narrow(float x) {
  return static_cast<T>(x);
}
// c10's version has a branch, which keeps loops from becoming vectors.
template <>
inline c10::BFloat16 Narrow<c10::BFloat16>(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t result = (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded;
  return c10::BFloat16(static_cast<uint16_t>(result), c10::BFloat16::from_bits());
}

// Cephes' expf, 2 units in the last place. Below -87 and above 88 it stays finite.
IDEFICS_INLINE float Exp(float x) {
  // 1.5 · 2^23: adding it leaves the nearest integer in the low bits.
  constexpr float kRound = 12582912.0f;
  x = x > 88.0f ? 88.0f : x;
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 1.44269504f + kRound;
  const float power = shifted - kRound;
  const float r = (x - power * 0.693359375f) + power * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto exponent = (std::bit_cast<uint32_t>(shifted) << 23) + (127u << 23);
  return p * std::bit_cast<float>(exponent);
}

}  // namespace idefics
