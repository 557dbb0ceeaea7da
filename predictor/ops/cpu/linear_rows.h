// SPDX-License-Identifier: Apache-2.0
// How the packed linear kernels divide rows into blocks, and reach the loops compiled for a block's
// number of rows. Included only by linear_*.cc; see linear_tile.h.
#pragma once

#include <cstdint>

#include "predictor/ops/cpu/inlining.h"

namespace idefics {

// body(Index<rows>()). REQUIRES: kLeast ≤ rows ≤ kMost.
template <int kLeast, int kMost, typename Body>
IDEFICS_INLINE void WithRows(int64_t rows, const Body& body) {
  if constexpr (kLeast < kMost) {
    if (rows < kMost) return WithRows<kLeast, kMost - 1>(rows, body);
  }
  body(Index<kMost>());
}

// body(block, row, rows) for rows 0 … m - 1 in blocks of similar size, at most kMost: of more than
// one, none has less than half of it.
template <int kMost, typename Body>
IDEFICS_INLINE void ForRowBlocks(int64_t m, const Body& body) {
  const int64_t blocks = (m + kMost - 1) / kMost;
  int64_t row = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t left = blocks - block;
    const int64_t rows = (m - row + left - 1) / left;
    body(block, row, rows);
    row += rows;
  }
}

}  // namespace idefics
