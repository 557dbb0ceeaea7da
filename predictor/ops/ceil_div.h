// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace idefics {

// Tiles, words or groups that hold `a` values, `b` in each.
inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace idefics
