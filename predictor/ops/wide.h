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

}  // namespace idefics
