// SPDX-License-Identifier: Apache-2.0
// The products of a word of int8 or int4 weights and words of s8 activations, for an `Isa` as
// linear_tile.h describes it. Included only by linear_*.cc.
#pragma once

#include "predictor/ops/cpu/linear_tile.h"

namespace idefics {

template <typename Isa, int kBits>
struct IntProducts {
  static constexpr bool kShortSums = kBits == 4 && !Isa::kByteDot;
  static constexpr bool kShortX = kBits == 8 && !Isa::kByteDot;         // as LinearArguments says
  static constexpr int64_t kWordsOfX = kBits == 8 && !kShortX ? 1 : 2;  // for one word of weights

  // What meets word number `half` of x in a word of weights.
  static IDEFICS_INLINE typename Isa::Ints Part(typename Isa::Ints word, int half) {
    if constexpr (kShortX) return half == 0 ? Isa::EvenBytes(word) : Isa::OddBytes(word);
    if constexpr (kBits == 4) return half == 0 ? Isa::LowNibbles(word) : Isa::HighNibbles(word);
    if constexpr (Isa::kSignedDot) return Isa::SignedBytes(word);
    return word;
  }

  static IDEFICS_INLINE void Dot(typename Isa::Ints& sum, typename Isa::Ints w,
                                 typename Isa::Ints x) {
    if constexpr (kShortSums) {
      sum = Isa::AddShorts(sum, Isa::MultiplyU4S8(w, x));
    } else if constexpr (kShortX) {
      Isa::DotShorts(sum, w, x);
    } else if constexpr (Isa::kSignedDot) {
      Isa::DotS8S8(sum, w, x);
    } else {
      Isa::DotU8S8(sum, w, x);
    }
  }

  // The same of vectors of columns.
  template <int V>
  static IDEFICS_INLINE void DotRow(typename Isa::Ints (&sums)[V], const typename Isa::Ints (&w)[V],
                                    typename Isa::Ints x) {
    if constexpr (kShortX && Isa::kWideBlocks && V == 2) {
      Isa::DotTwoShorts(sums[0], sums[1], w[0], w[1], x);
    } else {
      Unrolled<V>([&](auto v) IDEFICS_ALWAYS { Dot(sums[v], w[v], x); });
    }
  }
};

}  // namespace idefics
