// SPDX-License-Identifier: Apache-2.0
// Among how many blocks the products of linear_skinny.cuh and linear_tiled.cuh divide k. By the
// weight's shape and the chip alone, never by the rows: a row's bits are the same among any others.
// Pure, any thread.
#pragma once

#include <algorithm>
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

// A weight as the product for few rows reads it.
struct SkinnyWeight {
  int64_t blocks;  // that divide its columns
  int64_t bytes;
  int64_t chunks;  // of k
  // Blocks on a processor that keep memory busy: fewer read in proportion less.
  double busy_blocks;
};

// What a processor reads while the second kernel adds the parts: 2 µs at 32 GB/s.
constexpr double kBytesOfSumming = 64 * 1024;

// The fewest blocks that should divide k, where that is worth a tenth of the product's time or
// more. min_chunks: of a block, so that each of its warps has one.
constexpr int ChooseSkinnySplits(const SkinnyWeight& w, int64_t min_chunks, int processors) {
  const auto cost = [&](int splits) {
    const double resident = static_cast<double>(w.blocks * splits) / processors;
    const double share = std::min(1.0, resident / w.busy_blocks);
    return static_cast<double>(w.bytes) / processors / share + (splits > 1 ? kBytesOfSumming : 0);
  };
  int best = 1;
  for (int splits = 2; splits <= kMaxKSplits && splits * min_chunks <= w.chunks; ++splits) {
    if (cost(splits) < (best == 1 ? 0.9 : 1.0) * cost(best)) best = splits;
  }
  return best;
}

}  // namespace idefics
