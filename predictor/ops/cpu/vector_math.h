// SPDX-License-Identifier: Apache-2.0
// Numbers of the CPU's row arithmetic: elements widened to f32 and rounded back, how many partial
// sums a row is added up in, e^x without a call, so that a loop of it becomes vectors, and 8-bit
// codes. A row's sum has the same order wherever it is computed.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <bit>
#include <cstdint>
#include <cstring>

#include "predictor/ops/cpu/inlining.h"

namespace idefics {

constexpr int64_t kLanes = 32;  // independent partial sums, so that the loop becomes vectors

inline float Wide(float x) { return x; }
inline float Wide(int8_t x) { return x; }
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

// What a few numbers have in common as 8-bit codes.
struct QuantizedGroup {
  float scale;  // x ≈ code · scale; NaN where a number is not finite: the codes are zeros then
  int32_t sum;  // of the codes
};

// x [n] → q [n], to the nearest code, even.
template <typename T>
IDEFICS_INLINE QuantizedGroup QuantizeGroup(const T* x, int64_t n, int8_t* q) {
  constexpr float kRound = 12582912.0f;  // as in Exp
  constexpr uint32_t kInfinityBits = 0x7f800000;
  uint32_t largest_bits = 0;  // positive floats have the order of their bits
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(Wide(x[i])) & 0x7fffffff;
    largest_bits = bits > largest_bits ? bits : largest_bits;
  }
  if (largest_bits >= kInfinityBits) {
    std::memset(q, 0, n);
    return {__builtin_nanf(""), 0};
  }
  const auto largest = std::bit_cast<float>(largest_bits);
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto code = static_cast<int32_t>((Wide(x[i]) * inverse + kRound) - kRound);
    q[i] = static_cast<int8_t>(code);
    sum += code;
  }
  return {largest / 127.0f, sum};
}

}  // namespace idefics
