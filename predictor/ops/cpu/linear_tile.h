// SPDX-License-Identifier: Apache-2.0
// The inner loops of the packed linear kernels for one instruction set, described by a type `Isa`:
//   Floats, Ints: vectors of kLanes; Load, Store, ZeroFloats, SetFloat, SetInt, ToFloats,
//   MultiplyAdd(a, b, c) = a·b + c, Multiply, WidenBf16(const uint16_t*);
//   LoadWords(p), BroadcastWord(p); DotF32, DotBf16(Floats& sum, Ints w, Ints x);
//   LowNibbles(w), HighNibbles(w);
//   kByteDot: whether there is DotU8S8(Ints& sum, Ints w, Ints x), four products of bytes in one,
//   or, with kSignedDot, DotS8S8 and SignedBytes(w), which takes 128 from each byte.
//   Otherwise int8 multiplies 16-bit numbers: EvenBytes(w), OddBytes(w),
//   DotShorts(Ints& sum, Ints w, Ints x); and int4 adds products of bytes in 16 bits:
//   MultiplyU4S8(w, x), AddShorts(a, b), AddPairs(shorts), AddInts(a, b);
//   kWideBlocks: whether int8 weights are widened for many rows, with StoreWords(p, words),
//   SignedShorts(bytes), which takes 128 from each, and Keep(value), in a register; and whether
//   there is DotTwoShorts(Ints& sum0, Ints& sum1, Ints w0, Ints w1, Ints x), with both products
//   before both sums: a Zen 3 makes 24.5 products a cycle, and 23.1 with a sum after each product;
//   kRowPairs: whether there is DotPairs(Ints& sum, Ints w, Ints x): eight bytes of columns c and
//   c + 1 times those of rows r and r + 1 make the sums (c, r), (c, r + 1), (c + 1, r), … of four
//   lanes; with TwoRows(p, q), ZipLow(a, b), ZipHigh(a, b), and FirstOfPairs(low, high) and
//   SecondOfPairs(low, high), which gather the sums of r and of r + 1.
//   kStreamHints: whether CPUs that have nothing better read whole steps sooner with prefetches;
//   Vectors(rows): vectors of columns whose sums, for `rows` rows, fit the registers;
//   kMaxRows: the most rows of one pass over weights in memory; kBlockRows: over cached weights;
//   kFloatBlockSteps: steps of a tile that stay in a cache, each 256 bytes, of f32 and bf16.
// Included only by linear_*.cc. Each has its own compiler flags and its own Isa in an anonymous
// namespace, so that no template instance is shared between them; for the same reason nothing of
// the standard library is used here.
#pragma once

#include "predictor/ops/cpu/inlining.h"
#include "predictor/ops/cpu/linear_kernels.h"

namespace idefics {

// How a kernel passes over the weights.
enum class Reading {
  // Once, from memory. A pass over whole steps is one stream, which newer CPUs fetch ahead of by
  // themselves, and sooner where nothing else is asked for; with kStreamHints, and of parts of
  // steps, lines are prefetched past the outer caches, which keep the data of what runs between two
  // linears.
  kStream,
  // A block in the cache, and each step prefetches a part of the next block.
  kBlockAndNext,
  // A block in the cache. A Zen 3 is 8 % quicker without prefetches.
  kBlock,
};

template <typename Isa, int M, Reading kReading>
struct Pass {
  static constexpr bool kStream = kReading == Reading::kStream;
  static constexpr int kRows = M;
  static constexpr int kVectors = Isa::Vectors(M);
  static constexpr bool kWholeSteps = kVectors * Isa::kLanes == kTileColumns;
  static constexpr int kLines =
      kStream ? (kVectors * Isa::kLanes + kLineWords - 1) / kLineWords : 2;
  static constexpr int64_t kAheadStep = kStream ? kTileColumns : kLines * kLineWords;
  // As many lines as a core asks the memory for at a time, or the hints wait for each other, and
  // the reads behind them: a Zen 3 has room for 24.
  static constexpr int64_t kStreamLines = 20;
  static constexpr int64_t kStreamAhead = kStreamLines / kLines * kTileColumns;  // words

  static IDEFICS_INLINE void Fetch(const uint32_t* ahead) {
    if constexpr (kReading == Reading::kBlock) return;
    if constexpr (kStream && kWholeSteps && !Isa::kStreamHints) return;
    Unrolled<kLines>([&](auto line) IDEFICS_ALWAYS {
      __builtin_prefetch(ahead + line * kLineWords, 0, kStream ? 0 : 2);
    });
  }

  // The same of int4's steps and minima, a stream of their own.
  static IDEFICS_INLINE void FetchRange(const uint16_t* range) {
    if constexpr (!kStream) return;
    constexpr int kLine = 2 * kLineWords;
    constexpr int kRangeLines = (kVectors * Isa::kLanes + kLine - 1) / kLine;
    Unrolled<kRangeLines>([&](auto line) IDEFICS_ALWAYS {
      __builtin_prefetch(range + line * kLine, 0, 0);
      __builtin_prefetch(range + kTileColumns + line * kLine, 0, 0);
    });
  }
};

// Weights of f32 (kBf16 = false) or pairs of bf16.
template <typename Isa, bool kBf16>
struct FloatWeights {
  static constexpr bool kWideBlocks = false;
  static constexpr int64_t kBlockSteps = Isa::kFloatBlockSteps;

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
};

}  // namespace idefics
