// SPDX-License-Identifier: Apache-2.0
// Many rows times int8 weights for an `Isa` with kWideBlocks (linear_tile.h): a block of weights is
// widened to 16-bit numbers once, and all rows are multiplied with these. The integer sums are
// those of linear_int_tile.h. Included only by linear_*.cc.
#pragma once

#include "predictor/ops/cpu/linear_int_tile.h"
#include "predictor/ops/cpu/linear_rows.h"

namespace idefics {

template <typename Isa>
struct WideBlocks {
  using Weights = IntWeights<Isa, 8>;
  static constexpr int64_t kRows = 96;  // from which on that is quicker, measured on a Zen 3
  static constexpr int kVectors = Isa::Vectors(Isa::kBlockRows);
  static constexpr int64_t kColumns = kVectors * Isa::kLanes;
  static constexpr int64_t kStepWords = 2 * kColumns;
  // 40 KiB of 16-bit numbers, read in order, which the L2 cache delivers in time. A block that fits
  // the L1 cache takes longer: the rows' sums are added up more often.
  static constexpr int64_t kBlockSteps = 320;
  static_assert(kBlockSteps % Weights::kGroupSteps == 0);

  // Words of weights → [steps, 2, kColumns] pairs of s16: bytes 0 and 2 of each, then 1 and 3.
  static void Widen(const uint32_t* w, int64_t steps, uint32_t* wide) {
    for (int64_t i = 0; i < steps; ++i, w += kTileColumns, wide += kStepWords) {
      Unrolled<kVectors>([&](auto v) IDEFICS_ALWAYS {
        const typename Isa::Ints words = Isa::LoadWords(w + v * Isa::kLanes);
        Isa::StoreWords(wide + v * Isa::kLanes, Isa::SignedShorts(Isa::EvenBytes(words)));
        Isa::StoreWords(wide + kColumns + v * Isa::kLanes, Isa::SignedShorts(Isa::OddBytes(words)));
      });
    }
  }

  // Adds rows part.row … part.row + M - 1 of the product.
  template <int M>
  static void MultiplyRows(const LinearArguments& arguments, const TilePart& part,
                           const uint32_t* wide) {
    const LinearArguments a = arguments;  // stores of sums could change what a reference refers to
    using ThisPass = Pass<Isa, M, Reading::kBlock>;
    static_assert(ThisPass::kVectors == kVectors);
    const int64_t end = part.first_step + part.steps;
    for (int64_t step = part.first_step; step < end; step += Weights::kGroupSteps) {
      const int64_t steps = end - step < Weights::kGroupSteps ? end - step : Weights::kGroupSteps;
      const uint32_t* x = a.x + part.row * a.x_stride + step * Weights::kWordsOfX;
      typename Weights::template Sums<ThisPass> sums;
      Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
        Unrolled<kVectors>([&](auto v) IDEFICS_ALWAYS { sums.of[m][v] = Isa::SetInt(0); });
      });
      for (int64_t i = 0; i < Weights::kWordsOfX * steps; ++i, ++x, wide += kColumns) {
        typename Isa::Ints words[kVectors];
        Unrolled<kVectors>(
            [&](auto v) IDEFICS_ALWAYS { words[v] = Isa::LoadWords(wide + v * Isa::kLanes); });
        Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
          Weights::Products::DotRow(sums.of[m], words, Isa::BroadcastWord(x + m * a.x_stride));
        });
      }
      Unrolled<M>([&](auto m) IDEFICS_ALWAYS {  // or GCC 12 spills them in the loop above
        Unrolled<kVectors>([&](auto v) IDEFICS_ALWAYS { Isa::Keep(sums.of[m][v]); });
      });
      Weights::template AddGroup<ThisPass>(a, part, step / Weights::kGroupSteps, sums);
    }
    if (end == a.steps) Weights::template ScaleColumns<ThisPass>(a, part);
  }

  // All rows. Each block of them prefetches a share of the weights to widen next.
  static void Block(const LinearArguments& a, TilePart part, const uint32_t* next) {
    alignas(64) uint32_t wide[kBlockSteps * kStepWords];
    Widen(part.Weights(a), part.steps, wide);
    ForRowBlocks<Isa::kBlockRows>(a.m, [&](int64_t, int64_t row, int64_t rows) {
      const int64_t end = part.steps * (row + rows) / a.m;
      for (int64_t i = part.steps * row / a.m; i < end; ++i) {
        for (int64_t word = 0; word < kColumns; word += kLineWords) {
          __builtin_prefetch(next + i * kTileColumns + word, 0, 2);
        }
      }
      part.row = row;
      WithRows<Isa::kBlockRows / 2, Isa::kBlockRows>(
          rows, [&](auto count) { MultiplyRows<count>(a, part, wide); });
    });
  }

  // REQUIRES: a.m ≥ kRows, so that no block has less than half of kBlockRows.
  static void Run(const LinearArguments& a, int64_t tile) {
    for (int64_t step = 0; step < a.steps; step += kBlockSteps) {
      const int64_t steps = a.steps - step < kBlockSteps ? a.steps - step : kBlockSteps;
      for (int64_t column = 0; column < kTileColumns; column += kColumns) {
        const TilePart part{tile, column, 0, step, steps, nullptr};
        const bool last = column + kColumns == kTileColumns;
        Block(a, part, part.Weights(a) + (last ? steps * kTileColumns - column : kColumns));
      }
    }
  }
};

}  // namespace idefics
