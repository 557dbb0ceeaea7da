// SPDX-License-Identifier: Apache-2.0
// What the row arithmetic of the CPU operators shares: elements widened to f32, and how many
// partial sums a row is added up in. A row's sum has the same order wherever it is computed.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <bit>
#include <cstdint>

namespace idefics {

constexpr int64_t kLanes = 32;  // independent partial sums, so that the loop vectorises

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
// Without c10's branch, which keeps loops from becoming vectors.
template <>
inline c10::BFloat16 Narrow<c10::BFloat16>(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t result = (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded;
  return c10::BFloat16(static_cast<uint16_t>(result), c10::BFloat16::from_bits());
}

}  // namespace idefics
