// SPDX-License-Identifier: Apache-2.0
// The inner loops of the packed linear kernels for one instruction set, described by a type `Isa`:
//   Floats, Ints: vectors of kLanes; Load, Store, ZeroFloats, SetFloat, SetInt, ToFloats,
//   MultiplyAdd(a, b, c) = a·b + c, Multiply, WidenBf16(const uint16_t*);
//   LoadWords(p), BroadcastWord(p); DotF32, DotBf16(Floats& sum, Ints w, Ints x);
//   DotU8S8(Ints& sum, Ints w, Ints x), LowNibbles(w), HighNibbles(w);
//   Vectors(rows): vectors of columns whose sums, for `rows` rows, fit the registers;
//   kMaxRows: the most rows of one pass over weights in memory; kBlockRows: over cached weights.
// Included only by linear_*.cc. Each has its own compiler flags and its own Isa in an anonymous
// namespace, so that no template instance is shared between them; for the same reason nothing of
// the standard library is used here.
#pragma once

#include "predictor/ops/cpu/inlining.h"
#include "predictor/ops/cpu/linear_kernels.h"

namespace idefics {

// How a kernel passes over the weights. kStream: once, from memory; they are prefetched past the
// outer caches, which keep the data of what runs between two linears. Otherwise: over a block in
// the cache, and each step prefetches a part of the next block.
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

// Weights of f32 (kBf16 = false) or pairs of bf16.
template <typename Isa, bool kBf16>
struct FloatWeights {
  static constexpr int64_t kBlockSteps = 256;  // 64 KiB of a tile: stays in the L2 cache

  template <typename Pass>
  static IDEFICS_INLINE void Tile(const LinearArguments& a, const TilePart& part) {
    constexpr int M = Pass::kRows;
    constexpr int V = Pass::kVectors;
    const uint32_t* w = part.Weights(a);
    const uint32_t* ahead = part.ahead;
    const uint32_t* const x = a.x + part.row * a.x_stride + part.first_step;
    float* const y = part.Sums(a);
    typename Isa::Floats sums[M][V];
    Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
      Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
        sums[m][v] = part.first_step == 0 ? Isa::ZeroFloats()
                                          : Isa::Load(y + m * a.y_stride + v * Isa::kLanes);
      });
    });
    for (int64_t i = 0; i < part.steps; ++i, w += kTileColumns, ahead += Pass::kAheadStep) {
      Pass::Fetch(ahead);
      typename Isa::Ints words[V];
      Unrolled<V>([&](auto v) IDEFICS_ALWAYS { words[v] = Isa::LoadWords(w + v * Isa::kLanes); });
      Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
        const typename Isa::Ints value = Isa::BroadcastWord(x + m * a.x_stride + i);
        Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
          if constexpr (kBf16) {
            Isa::DotBf16(sums[m][v], words[v], value);
          } else {
            Isa::DotF32(sums[m][v], words[v], value);
          }
        });
      });
    }
    Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
      Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
        Isa::Store(y + m * a.y_stride + v * Isa::kLanes, sums[m][v]);
      });
    });
  }

  static IDEFICS_INLINE void Finish(const LinearArguments&, int64_t) {}
};

// Weights of 8 or 4 bits against s8 activations: exact integer sums within a group of k, groups
// added in f32 in the order of k.
template <typename Isa, int kBits>
struct IntWeights {
  static constexpr int64_t kWordsOfX = kBits == 8 ? 1 : 2;  // quads of x for one word of weights
  static constexpr int64_t kGroupSteps = kGroup / 4 / kWordsOfX;
  static constexpr int64_t kBlockSteps = 256;

  template <typename Pass>
  struct Sums {
    typename Isa::Ints of[Pass::kRows][Pass::kVectors];
  };

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
      const int32_t start = kBits == 8 ? -128 * a.x_sum[(part.row + m) * a.groups + group] : 0;
      Unrolled<V>([&](auto v) IDEFICS_ALWAYS { sums.of[m][v] = Isa::SetInt(start); });
    });
    for (int64_t i = 0; i < steps; ++i, w += kTileColumns, ahead += Pass::kAheadStep) {
      Pass::Fetch(ahead);
      Unrolled<kWordsOfX>([&](auto half) IDEFICS_ALWAYS {
        typename Isa::Ints words[V];
        Unrolled<V>([&](auto v) IDEFICS_ALWAYS {
          const typename Isa::Ints word = Isa::LoadWords(w + v * Isa::kLanes);
          words[v] = kBits == 8 ? word : half == 0 ? Isa::LowNibbles(word) : Isa::HighNibbles(word);
        });
        Unrolled<M>([&](auto m) IDEFICS_ALWAYS {
          const typename Isa::Ints value = Isa::BroadcastWord(x + m * a.x_stride);
          Unrolled<V>([&](auto v) IDEFICS_ALWAYS { Isa::DotU8S8(sums.of[m][v], words[v], value); });
        });
        ++x;
      });
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
    const uint16_t* const range =
        a.w_range + (part.tile * a.groups + group) * 2 * kTileColumns + part.column;
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

  template <typename Pass>
  static IDEFICS_INLINE void Tile(const LinearArguments& a, const TilePart& part) {
    const int64_t end = part.first_step + part.steps;
    for (int64_t step = part.first_step; step < end; step += kGroupSteps) {
      const int64_t group = step / kGroupSteps;
      const int64_t steps = end - step < kGroupSteps ? end - step : kGroupSteps;
      AddGroup<Pass>(a, part, group, Group<Pass>(a, part, group, steps));
    }
  }

  // Multiplies by each column's scale, once all groups are added.
  static IDEFICS_INLINE void Finish(const LinearArguments& a, int64_t tile) {
    if constexpr (kBits == 8) {
      const float* const scale = a.w_scale + tile * kTileColumns;
      float* y = a.y + tile * kTileColumns;
      for (int64_t m = 0; m < a.m; ++m, y += a.y_stride) {
        for (int64_t c = 0; c < kTileColumns; ++c) y[c] *= scale[c];
      }
    }
  }
};

}  // namespace idefics
