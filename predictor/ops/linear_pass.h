// SPDX-License-Identifier: Apache-2.0
// How the packed linear kernels go over a tile of weights. Included only by linear_tile.h.
#pragma once

#include "predictor/ops/linear_kernels.h"
#include "predictor/ops/unrolled.h"

namespace idefics {

// What one call of a kernel's inner loops covers: columns `column` … of one tile, rows `row` …,
// steps first_step … of k.
struct TilePart {
  int64_t tile;
  int64_t column;
  int64_t row;
  int64_t first_step;
  int64_t steps;
  const uint32_t* ahead;  // weights to fetch meanwhile: see Pass

  const uint32_t* Weights(const LinearArguments& a) const {
    return a.w + (tile * a.steps + first_step) * kTileColumns + column;
  }
  float* Sums(const LinearArguments& a) const {
    return a.y + row * a.y_stride + tile * kTileColumns + column;
  }
};

// How a kernel passes over the weights. kStream: once, straight from memory; they are fetched ahead
// without a place in the outer caches, which keep what runs between two linears. Otherwise: a block
// of them in the cache, and part of the next block is fetched into it at each step.
template <typename Isa, int M, bool kStream>
struct Pass {
  static constexpr int kRows = M;
  static constexpr int kVectors = Isa::Vectors(M);
  static constexpr int kLines =
      kStream ? (kVectors * Isa::kLanes + kLineWords - 1) / kLineWords : 2;
  static constexpr int64_t kAheadStep = kStream ? kTileColumns : kLines * kLineWords;

  static IDEFICS_INLINE void Fetch(const uint32_t* ahead) {
    Unrolled<kLines>([&](auto line) IDEFICS_ALWAYS {
      __builtin_prefetch(ahead + line * kLineWords, 0, kStream ? 0 : 2);
    });
  }
};

}  // namespace idefics
