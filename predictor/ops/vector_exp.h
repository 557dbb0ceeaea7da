// SPDX-License-Identifier: Apache-2.0
// e^x without a call, so that a loop of it becomes vectors.
#pragma once

#include <bit>
#include <cstdint>

#include "predictor/ops/unrolled.h"

namespace idefics {

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
