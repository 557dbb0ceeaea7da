// SPDX-License-Identifier: Apache-2.0
// How the blocks of linear_tiled.cuh share a product. Pure, any thread.
#pragma once

#include <cstdint>

#include "weights/linear_layout.h"

namespace idefics {

constexpr int64_t kTiledColumns = 256;  // of a block
constexpr int kMaxKSplits = 8;

// Blocks that should divide k for n columns: where the last wave of blocks would leave processors
// idle, more of them; each costs the time of its sums, about three hundredths of a product.
constexpr int ChooseKSplits(int64_t n, int64_t k, int processors) {
  const int64_t blocks = (n + kTiledColumns - 1) / kTiledColumns;
  const int64_t groups = (k + kGroup - 1) / kGroup;
  int best = 1;
  double least = 0;
  for (int splits = 1; splits <= kMaxKSplits && splits * 4 <= groups + 3; ++splits) {
    const auto waves = static_cast<double>((blocks * splits + processors - 1) / processors);
    const double cost = waves / splits + (splits > 1 ? 0.03 * splits : 0);
    if (splits == 1 || cost < least) {
      best = splits;
      least = cost;
    }
  }
  return best;
}

}  // namespace idefics
