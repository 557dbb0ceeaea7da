// SPDX-License-Identifier: Apache-2.0
// The inner loops of the int8 and int4 kernels, for an `Isa` as linear_tile.h describes it.
// Included only by linear_*.cc.
#pragma once

#include "predictor/ops/cpu/linear_int_products.h"
#include "predictor/ops/cpu/linear_row_pairs.h"

namespace idefics {

// Weights of 8 or 4 bits against s8 activations: exact integer sums within a group of k, whatever
// the instructions, and groups added in f32 in the order of k.
template <typename Isa, int kBits>
struct IntWeights {
  using Products = IntProducts<Isa, kBits>;
  static constexpr bool kShortSums = Products::kShortSums;
  static constexpr bool kWideBlocks = Products::kShortX && Isa::kWideBlocks;
  static constexpr int64_t kWordsOfX = Products::kWordsOfX;
  static constexpr int64_t kGroupSteps = kGroup * kBits / 32;
  static constexpr int64_t kBlockSteps = 256;
  // Steps whose products 16 bits hold: |a pair of products| ≤ 2 · 15 · 127, and a step adds two.
  static constexpr int64_t kShortSteps = 4;
  static_assert(kShortSteps * 2 * (2 * 15 * 127) <= 32767);
  static constexpr int64_t kRangesAhead = 2;  // groups, of int4
  // Vectors of a single row that take one word after the other: with their sums, the words of all
  // would be more than there are registers.
  static constexpr int kOneByOne = 8;

  template <typename Pass>
  struct Sums {
    typename Isa::Ints of[Pass::kRows][Pass::kVectors];
  };

  // Adds `steps` steps from the words of weights and of x on: to 32-bit sums, or to 16-bit ones.
  template <typename Pass>
  static IDEFICS_INLINE void Steps(const LinearArguments& a, const uint32_t* w, const uint32_t* x,
                                   const uint32_t* ahead, int64_t steps, Sums<Pass>& sums) {
    constexpr int M = Pass::kRows;
    constexpr int V = Pass::kVectors;
    for (int64_t i = 0; i < steps; ++i, w += kTileColumns, ahead += Pass::kAheadStep) {
      Pass::Fetch(ahead);
      if constexpr (M == 1 && V >= kOneByOne) {
        typename Isa::Ints values[kWordsOfX];
        Unrolled<kWordsOfX>([&](auto half)
                                IDEFICS_ALWAYS { values[half] = Isa::BroadcastWord(x + half); });
        Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
          const typename Isa::Ints word = Isa::LoadWords(w + v * Isa::kLanes);
          Unrolled<kWordsOfX>([&](auto half) IDEFICS_ALWAYS {
            Products::Dot(sums.of[0][v], Products::Part(word, half), values[half]);
          });
        });
        x += kWordsOfX;
        continue;
      }
      Unrolled<kWordsOfX>([&](auto half) IDEFICS_ALWAYS {
        typename Isa::Ints words[V];
        Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
          words[v] = Products::Part(Isa::LoadWords(w + v * Isa::kLanes), half);
        });
        Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
          Products::DotRow(sums.of[m], words, Isa::BroadcastWord(x + m * a.x_stride));
        });
        ++x;
      });
    }
  }

  // The steps and, kTileColumns further on, the minima of a group of int4.
  static IDEFICS_INLINE const uint16_t* Range(const LinearArguments& a, const TilePart& part,
                                              int64_t group) {
    return a.w_range + (part.tile * a.groups + group) * 2 * kTileColumns + part.column;
  }

  // The integer sums of `steps` steps of one group.
  template <typename Pass>
  static IDEFICS_INLINE Sums<Pass> Group(const LinearArguments& a, const TilePart& part,
                                         int64_t group, int64_t steps) {
    constexpr int M = Pass::kRows;
    constexpr int V = Pass::kVectors;
    const int64_t first = group * kGroupSteps;
    const int64_t done = first - part.first_step;
    const uint32_t* w = part.Weights(a) + done * kTileColumns;
    const uint32_t* ahead = part.ahead + done * Pass::kAheadStep;
    const uint32_t* x = a.x + part.row * a.x_stride + first * kWordsOfX;
    Sums<Pass> sums;
    Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
      // int8 weights are stored with 128 added.
      const int32_t start =
          kBits == 8 && !Isa::kSignedDot ? -128 * a.x_sum[(part.row + m) * a.groups + group] : 0;
      Unrolled<V>([&](auto v) IDEFICS_ALWAYS { sums.of[m][v] = Isa::SetInt(start); });
    });
    if constexpr (Isa::kRowPairs && M > 1) {
      RowPairs<Isa, kBits>::template AddSteps<Pass>(a, w, x, ahead, steps, sums.of);
    } else if constexpr (!kShortSums) {
      Steps<Pass>(a, w, x, ahead, steps, sums);
    } else {
      for (int64_t i = 0; i < steps; i += kShortSteps) {
        Sums<Pass> shorts;
        Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
          Unrolled<V>([&](auto v) IDEFICS_ALWAYS { shorts.of[m][v] = Isa::SetInt(0); });
        });
        Steps<Pass>(a, w + i * kTileColumns, x + i * kWordsOfX, ahead + i * Pass::kAheadStep,
                    steps - i < kShortSteps ? steps - i : kShortSteps, shorts);
        Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
          Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
            sums.of[m][v] = Isa::AddInts(sums.of[m][v], Isa::AddPairs(shorts.of[m][v]));
          });
        });
      }
    }
    return sums;
  }

  // Adds a group's integer sums to y.
  template <typename Pass>
  static IDEFICS_INLINE void AddGroup(const LinearArguments& a, const TilePart& part, int64_t group,
                                      const Sums<Pass>& sums) {
    constexpr int M = Pass::kRows;
    constexpr int V = Pass::kVectors;
    const float* const x_scale = a.x_scale + part.row * a.groups + group;
    const int32_t* const x_sum = a.x_sum + part.row * a.groups + group;
    const uint16_t* const range = Range(a, part, group);
    float* const y = part.Sums(a);
    Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
      typename Isa::Floats step, minimum;
      if constexpr (kBits == 4) {
        step = Isa::WidenBf16(range + v * Isa::kLanes);
        minimum = Isa::WidenBf16(range + kTileColumns + v * Isa::kLanes);
      }
      Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
        float* const to = y + m * a.y_stride + v * Isa::kLanes;
        typename Isa::Floats total = group == 0 ? Isa::ZeroFloats() : Isa::Load(to);
        const float scale = x_scale[m * a.groups];
        const typename Isa::Floats sum = Isa::ToFloats(sums.of[m][v]);
        if constexpr (kBits == 8) {
          total = Isa::MultiplyAdd(sum, Isa::SetFloat(scale), total);
        } else {
          const float offset = scale * static_cast<float>(x_sum[m * a.groups]);
          total = Isa::MultiplyAdd(Isa::Multiply(step, Isa::SetFloat(scale)), sum, total);
          total = Isa::MultiplyAdd(minimum, Isa::SetFloat(offset), total);
        }
        Isa::Store(to, total);
      });
    });
  }

  // Multiplies the sums by each column's scale, once all groups are added.
  template <typename Pass>
  static IDEFICS_INLINE void ScaleColumns(const LinearArguments& a, const TilePart& part) {
    const float* const scale = a.w_scale + part.tile * kTileColumns + part.column;
    float* const y = part.Sums(a);
    Unrolled<Pass::kVectors>([&](auto v) IDEFICS_ALWAYS {
      const typename Isa::Floats factor = Isa::Load(scale + v * Isa::kLanes);
      Unrolled<Pass::kRows>([&](auto m) IDEFICS_ALWAYS {
        float* const to = y + m * a.y_stride + v * Isa::kLanes;
        Isa::Store(to, Isa::Multiply(Isa::Load(to), factor));
      });
    });
  }

  template <typename Pass>
  static IDEFICS_INLINE void Tile(const LinearArguments& a, const TilePart& part) {
    const int64_t end = part.first_step + part.steps;
    for (int64_t step = part.first_step; step < end; step += kGroupSteps) {
      const int64_t group = step / kGroupSteps;
      const int64_t steps = end - step < kGroupSteps ? end - step : kGroupSteps;
      if constexpr (kBits == 4) Pass::FetchRange(Range(a, part, group + kRangesAhead));
      AddGroup<Pass>(a, part, group, Group<Pass>(a, part, group, steps));
    }
    if (kBits == 8 && end == a.steps) ScaleColumns<Pass>(a, part);
  }
};

}  // namespace idefics
