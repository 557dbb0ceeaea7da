// SPDX-License-Identifier: Apache-2.0
// The outer loops of the packed linear kernels: tiles, blocks of k, blocks of rows. Included only
// by linear_*.cc; see linear_tile.h.
#pragma once

#include "predictor/ops/cpu/linear_wide_blocks.h"

namespace idefics {

template <typename Isa, typename Weights>
struct LinearLoops {
  // One block of rows, in as many parts of columns as fit the registers.
  template <int M, Reading kReading>
  static void RunRowBlock(const LinearArguments& arguments, TilePart part) {
    const LinearArguments a = arguments;  // stores of sums could change what a reference refers to
    using ThisPass = Pass<Isa, M, kReading>;
    constexpr int64_t kColumns = ThisPass::kVectors * Isa::kLanes;
    for (part.column = 0; part.column < kTileColumns; part.column += kColumns) {
      if (ThisPass::kStream) part.ahead = part.Weights(a) + ThisPass::kStreamAhead;
      Weights::template Tile<ThisPass>(a, part);
    }
  }

  template <int M, Reading kReading>
  static void DispatchRows(int64_t rows, const LinearArguments& a, const TilePart& part) {
    if (rows == M) return RunRowBlock<M, kReading>(a, part);
    if constexpr (M > 1) DispatchRows<M - 1, kReading>(rows, a, part);
  }

  // A small number of rows: one pass over the weights in memory.
  static void Stream(const LinearArguments& a, int64_t tile) {
    DispatchRows<Isa::kMaxRows, Reading::kStream>(a.m, a, {tile, 0, 0, 0, a.steps, nullptr});
  }

  // A block of the tile stays in the cache while all rows, in blocks of similar size, are
  // multiplied with it. The first of these passes prefetch the next block.
  static void Block(const LinearArguments& a, int64_t tile, int64_t first_step) {
    const int64_t left = a.steps - first_step;
    const int64_t steps = left < Weights::kBlockSteps ? left : Weights::kBlockSteps;
    TilePart part{tile, 0, 0, first_step, steps, nullptr};
    const uint32_t* const next = part.Weights(a) + steps * kTileColumns;
    constexpr int64_t kAheadStep = Pass<Isa, 1, Reading::kBlockAndNext>::kAheadStep;
    constexpr int64_t kPasses = kTileColumns / kAheadStep;
    const int64_t blocks = (a.m + Isa::kBlockRows - 1) / Isa::kBlockRows;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t rows = (a.m - part.row + blocks - block - 1) / (blocks - block);
      if (block < kPasses) {
        part.ahead = next + block * steps * kAheadStep;
        DispatchRows<Isa::kBlockRows, Reading::kBlockAndNext>(rows, a, part);
      } else {
        DispatchRows<Isa::kBlockRows, Reading::kBlock>(rows, a, part);
      }
      part.row += rows;
    }
  }

  // Many rows.
  static void Blocks(const LinearArguments& a, int64_t tile) {
    if constexpr (Weights::kWideBlocks) {
      if (a.m >= WideBlocks<Isa>::kRows) return WideBlocks<Isa>::Run(a, tile);
    }
    for (int64_t step = 0; step < a.steps; step += Weights::kBlockSteps) Block(a, tile, step);
  }

  static void Run(const LinearArguments& a, int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      if (a.m <= Isa::kMaxRows) {
        Stream(a, tile);
      } else {
        Blocks(a, tile);
      }
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
