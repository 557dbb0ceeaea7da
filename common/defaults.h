// SPDX-License-Identifier: Apache-2.0
// Defaults of the settings that have a flag (flags.cc) and a field in an options struct: each
// number is written here only.
#pragma once

#include <cstdint>

namespace idefics::defaults {

constexpr int kMaxSequenceTokens = 4096;  // --max-sequence-tokens
constexpr int kLeastImageSlots = 32;      // where memory decides: --image-cache-slots 0
constexpr int kRankTimeoutS = 300;        // --rank-timeout
constexpr int kMaxImages = 64;            // --max-images
constexpr int64_t kMaxImageBytes = int64_t{100} << 20;
constexpr int64_t kMaxImagePixels = 178956970;  // Pillow's limit
constexpr int64_t kMaxBodyBytes = int64_t{100} << 20;

}  // namespace idefics::defaults
