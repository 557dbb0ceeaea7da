// SPDX-License-Identifier: Apache-2.0
// Inlining and unrolling that the compiler cannot decline, for loops whose sums must stay in
// registers.
#pragma once

#define IDEFICS_ALWAYS __attribute__((always_inline))
#define IDEFICS_INLINE inline IDEFICS_ALWAYS

namespace idefics {

template <int kValue>
struct Index {
  constexpr operator int() const { return kValue; }
};

// body(Index<0>()), …, body(Index<N - 1>()), written out: GCC keeps an array in registers only when
// all its indices are constants early.
template <int N, typename Body>
IDEFICS_INLINE void Unrolled(const Body& body) {
  if constexpr (N > 0) {
    Unrolled<N - 1>(body);
    body(Index<N - 1>());
  }
}

}  // namespace idefics
