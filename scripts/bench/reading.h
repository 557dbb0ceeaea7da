// SPDX-License-Identifier: Apache-2.0
// The loop that only reads: the yardstick of everything that is bound by memory.
#pragma once

#include <cstdint>
#include <span>

namespace idefics {

// Their sum, which a caller must use, or the compiler leaves the reading out.
uint64_t SumOf(std::span<const uint64_t> words);

}  // namespace idefics
