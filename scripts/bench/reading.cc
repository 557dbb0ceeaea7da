// SPDX-License-Identifier: Apache-2.0
#include "scripts/bench/reading.h"

namespace idefics {

// Several sums keep the loop from waiting for its additions; the compiler makes them vectors. The
// CPU fetches ahead of a stream by itself, and sooner than with hints.
uint64_t SumOf(std::span<const uint64_t> words) {
  constexpr size_t kLanes = 32;
  uint64_t sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= words.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += words[i + lane];
  }
  uint64_t total = 0;
  for (; i < words.size(); ++i) total += words[i];
  for (const uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace idefics
