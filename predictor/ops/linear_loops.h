// SPDX-License-Identifier: Apache-2.0
// The outer loops of the packed linear kernels: tiles, blocks of k, blocks of rows. Included only
// by linear_*.cc; see linear_tile.h.
#pragma once

#include "predictor/ops/linear_tile.h"

namespace idefics {

template <typename Isa, typename Weights>
struct LinearLoops {
  static constexpr int64_t kPrefetch = 8 * kTileColumns;  // words: 2 KiB ahead in the stream

  // One row block, in as many column parts as registers need.
  template <int M>
  static void Rows(const LinearArguments& a, TilePart part) {
    constexpr int V = Isa::Vectors(M);
    for (part.column = 0; part.column < kTileColumns; part.column += V * Isa::kLanes) {
      Weights::template Tile<M, V>(a, part);
    }
  }

  template <int M>
  static void ChooseRows(int64_t rows, const LinearArguments& a, const TilePart& part) {
    if (rows == M) return Rows<M>(a, part);
    if constexpr (M > 1) ChooseRows<M - 1>(rows, a, part);
  }

  // Few rows: one pass straight from memory. Many: blocks of the tile stay in the cache while all
  // rows pass, and the last row block fetches the next one.
  static void Run(const LinearArguments& a, int64_t begin, int64_t end) {
    const bool few = a.m <= Isa::kMaxRows;
    const int64_t most = few ? Isa::kMaxRows : Isa::kBlockRows;
    const int64_t blocks = (a.m + most - 1) / most;
    const int64_t block_steps = few ? a.steps : Weights::kBlockSteps;
    for (int64_t tile = begin; tile < end; ++tile) {
      for (int64_t step = 0; step < a.steps; step += block_steps) {
        const int64_t left = a.steps - step;
        const int64_t steps = left < block_steps ? left : block_steps;
        int64_t row = 0;
        for (int64_t block = blocks; block > 0; --block) {
          const int64_t rows = (a.m - row + block - 1) / block;
          const int64_t prefetch = few ? kPrefetch : block == 1 ? steps * kTileColumns : 0;
          ChooseRows<Isa::kMaxRows>(rows, a, {tile, 0, row, step, steps, prefetch});
          row += rows;
        }
      }
      Weights::Finish(a, tile);
    }
  }
};

template <typename Isa>
constexpr LinearKernel kF32Kernel = LinearLoops<Isa, FloatWeights<Isa, false>>::Run;
template <typename Isa>
constexpr LinearKernel kBf16Kernel = LinearLoops<Isa, FloatWeights<Isa, true>>::Run;
template <typename Isa>
constexpr LinearKernel kInt8Kernel = LinearLoops<Isa, IntWeights<Isa, 8>>::Run;
template <typename Isa>
constexpr LinearKernel kInt4Kernel = LinearLoops<Isa, IntWeights<Isa, 4>>::Run;

}  // namespace idefics
