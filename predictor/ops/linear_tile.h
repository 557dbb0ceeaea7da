// SPDX-License-Identifier: Apache-2.0
// The loops of the linear operator for one instruction set, described by a type `Isa`:
//   Element, Operand, Sum; kStep (elements of one Operand); kTileM, kTileN (sums that fit the
//   registers); Load(p), LoadTail(p, count), MultiplyAdd(sum, x, w), Total(sum), Widen(element),
//   Narrow(float).
// Included only by linear_*.cc, each with its own compiler flags and its own Isa in an anonymous
// namespace, so that no instance is shared between them. No standard library here for the same
// reason.
#pragma once

#include "predictor/ops/linear_kernels.h"

namespace idefics {

// Always inlined: an out-of-line copy would be shared between files of different instruction sets.
inline __attribute__((always_inline)) float WidenBf16(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}

// Rounds to nearest even; NaN stays NaN.
inline __attribute__((always_inline)) uint16_t NarrowBf16(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <typename Isa>
struct LinearTiles {
  using Element = typename Isa::Element;

  // Sums of M rows of x with N rows of w, along k in steps of kStep, then the tail.
  template <int M, int N>
  static inline void Tile(const LinearArguments& a, int64_t row, int64_t column) {
    const auto* x = static_cast<const Element*>(a.x) + row * a.k;
    const auto* w = static_cast<const Element*>(a.w) + column * a.k;
    typename Isa::Sum sums[M][N] = {};
    int64_t i = 0;
    for (; i + Isa::kStep <= a.k; i += Isa::kStep) {
      typename Isa::Operand rows[M];
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) rows[m] = Isa::Load(x + m * a.k + i);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        const typename Isa::Operand weights = Isa::Load(w + n * a.k + i);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) Isa::MultiplyAdd(sums[m][n], rows[m], weights);
      }
    }
    if (const int64_t tail = a.k - i; tail > 0) {
      for (int n = 0; n < N; ++n) {
        const typename Isa::Operand weights = Isa::LoadTail(w + n * a.k + i, tail);
        for (int m = 0; m < M; ++m) {
          Isa::MultiplyAdd(sums[m][n], Isa::LoadTail(x + m * a.k + i, tail), weights);
        }
      }
    }
    const auto* bias = static_cast<const Element*>(a.bias);
    auto* y = static_cast<Element*>(a.y);
    for (int m = 0; m < M; ++m) {
      for (int n = 0; n < N; ++n) {
        float total = Isa::Total(sums[m][n]);
        if (bias != nullptr) total += Isa::Widen(bias[column + n]);
        y[(row + m) * a.n + column + n] = Isa::Narrow(total);
      }
    }
  }

  template <int M>
  static inline void Columns(const LinearArguments& a, int64_t row, int64_t begin, int64_t end) {
    // One row of x leaves registers for more streams of w.
    constexpr int kWide = M == 1 ? 8 : Isa::kTileN;
    int64_t column = begin;
    for (; column + kWide <= end; column += kWide) Tile<M, kWide>(a, row, column);
    for (; column < end; ++column) Tile<M, 1>(a, row, column);
  }

  // Blocks of w that stay in the second-level cache while all rows of x pass.
  static void Run(const LinearArguments& a, int64_t n_begin, int64_t n_end) {
    constexpr int64_t kBlockBytes = 256 << 10;
    int64_t block = kBlockBytes / (a.k * static_cast<int64_t>(sizeof(Element)));
    block = block / 24 * 24;
    if (block < 24) block = 24;
    for (int64_t begin = n_begin; begin < n_end; begin += block) {
      const int64_t end = begin + block < n_end ? begin + block : n_end;
      int64_t row = 0;
      for (; row + Isa::kTileM <= a.m; row += Isa::kTileM) {
        Columns<Isa::kTileM>(a, row, begin, end);
      }
      for (; row + 2 <= a.m; row += 2) Columns<2>(a, row, begin, end);
      for (; row < a.m; ++row) Columns<1>(a, row, begin, end);
    }
  }
};

}  // namespace idefics
