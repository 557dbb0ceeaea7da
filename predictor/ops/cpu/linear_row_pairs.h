// SPDX-License-Identifier: Apache-2.0
// The inner loop of the int8 and int4 kernels of an `Isa` with kRowPairs (linear_tile.h): two rows
// of activations at a time. The integer sums are those of linear_int_tile.h. Included only by
// linear_*.cc.
#pragma once

#include "predictor/ops/cpu/linear_tile.h"

namespace idefics {

template <typename Isa, int kBits>
struct RowPairs {
  // Adds `steps` steps from the words of weights and of x on: eight values of k at a time, of one
  // word of int4 or of two of int8.
  template <typename Pass>
  static IDEFICS_INLINE void AddSteps(const LinearArguments& a, const uint32_t* w,
                                      const uint32_t* x, const uint32_t* ahead, int64_t steps,
                                      typename Isa::Ints (&sums)[Pass::kRows][Pass::kVectors]) {
    constexpr int M = Pass::kRows;
    constexpr int V = Pass::kVectors;
    constexpr int kPairs = (M + 1) / 2;  // the last row of an odd number is paired with itself
    constexpr int kAtOnce = kBits == 4 ? 1 : 2;
    typename Isa::Ints low[kPairs][V], high[kPairs][V];  // of the first half of a vector's columns
    Unrolled<kPairs>([&](auto p) IDEFICS_ALWAYS {
      Unrolled<V>([&](auto v) IDEFICS_ALWAYS { low[p][v] = high[p][v] = Isa::SetInt(0); });
    });
    for (int64_t i = 0; i < steps; i += kAtOnce, w += kAtOnce * kTileColumns, x += 2) {
      Unrolled<kAtOnce>([&](auto) IDEFICS_ALWAYS {
        Pass::Fetch(ahead);
        ahead += Pass::kAheadStep;
      });
      typename Isa::Ints rows[kPairs];
      Unrolled<kPairs>([&](auto p) IDEFICS_ALWAYS {
        const uint32_t* const first = x + 2 * p * a.x_stride;
        rows[p] = Isa::TwoRows(first, 2 * p + 1 < M ? first + a.x_stride : first);
      });
      Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
        const uint32_t* const word = w + v * Isa::kLanes;
        typename Isa::Ints first = Isa::LoadWords(word), second = Isa::SetInt(0);
        if constexpr (kBits == 4) {
          second = Isa::HighNibbles(first);
          first = Isa::LowNibbles(first);
        } else if (i + 1 < steps) {
          second = Isa::LoadWords(word + kTileColumns);
        }
        const typename Isa::Ints left = Isa::ZipLow(first, second);
        const typename Isa::Ints right = Isa::ZipHigh(first, second);
        Unrolled<kPairs>([&](auto p) IDEFICS_ALWAYS {
          Isa::DotPairs(low[p][v], left, rows[p]);
          Isa::DotPairs(high[p][v], right, rows[p]);
        });
      });
    }
    Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
      Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
        const auto& pair = low[m / 2][v];
        sums[m][v] =
            Isa::AddInts(sums[m][v], m % 2 == 0 ? Isa::FirstOfPairs(pair, high[m / 2][v])
                                                : Isa::SecondOfPairs(pair, high[m / 2][v]));
      });
    });
  }
};

}  // namespace idefics
