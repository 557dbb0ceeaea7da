// SPDX-License-Identifier: Apache-2.0
// The outer loops of the packed linear kernels: tiles, blocks of k, blocks of rows. Included only
// by linear_*.cc; see linear_tile.h.
#pragma once

#include "predictor/ops/cpu/linear_rows.h"
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

  // A small number of rows: one pass over the weights in memory.
  static void Stream(const LinearArguments& a, int64_t tile) {
    WithRows<1, Isa::kMaxRows>(a.m, [&](auto rows) {
      RunRowBlock<rows, Reading::kStream>(a, {tile, 0, 0, 0, a.steps, nullptr});
    });
  }

  // A block of the tile stays in the cache while all rows, in blocks, are multiplied with it. The
  // first of these passes prefetch the next block of the tile.
  static void Block(const LinearArguments& a, int64_t tile, int64_t first_step) {
    const int64_t left = a.steps - first_step;
    const int64_t steps = left < Weights::kBlockSteps ? left : Weights::kBlockSteps;
    TilePart part{tile, 0, 0, first_step, steps, nullptr};
    const uint32_t* const next = part.Weights(a) + steps * kTileColumns;
    constexpr int64_t kAheadStep = Pass<Isa, 1, Reading::kBlockAndNext>::kAheadStep;
    constexpr int64_t kPasses = kTileColumns / kAheadStep;
    ForRowBlocks<Isa::kBlockRows>(a.m, [&](int64_t block, int64_t row, int64_t rows) {
      part.row = row;
      part.ahead = next + block * steps * kAheadStep;
      WithRows<1, Isa::kBlockRows>(rows, [&](auto count) {
        if (block < kPasses) return RunRowBlock<count, Reading::kBlockAndNext>(a, part);
        RunRowBlock<count, Reading::kBlock>(a, part);
      });
    });
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
