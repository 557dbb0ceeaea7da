// SPDX-License-Identifier: Apache-2.0
// What the AVX-512 kernels share. Included only by linear_avx512*.cc, whose anonymous namespaces
// derive from it; see linear_tile.h.
#pragma once

#include <immintrin.h>

#include "predictor/ops/cpu/linear_loops.h"

namespace idefics {
namespace {

// 32-bit lanes, as the dot products see them: with __m512i (64-bit lanes) GCC 12 spills the sums.
using Words512 = int32_t __attribute__((vector_size(64), may_alias));

struct Avx512Base {
  using Floats = __m512;
  using Ints = Words512;
  static constexpr int kLanes = 16;
  static constexpr bool kSignedDot = false;
  static constexpr bool kWideBlocks = false;
  static constexpr bool kRowPairs = false;
  static constexpr bool kStreamHints = false;
  static constexpr int kMaxRows = 6;
  static constexpr int kBlockRows = 6;
  static constexpr int64_t kFloatBlockSteps = 256;  // the L2 cache
  static constexpr int Vectors(int) { return 4; }

  static Floats Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, Floats value) { _mm512_storeu_ps(p, value); }
  static Floats ZeroFloats() { return _mm512_setzero_ps(); }
  static Floats SetFloat(float value) { return _mm512_set1_ps(value); }
  static Ints SetInt(int32_t value) { return (Ints)_mm512_set1_epi32(value); }
  static Floats ToFloats(Ints value) { return _mm512_cvtepi32_ps((__m512i)value); }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats Multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats WidenBf16(const uint16_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static Ints LoadWords(const uint32_t* p) { return (Ints)_mm512_loadu_si512(p); }
  static Ints BroadcastWord(const uint32_t* p) {
    return (Ints)_mm512_set1_epi32(static_cast<int32_t>(*p));
  }
  static void DotF32(Floats& sum, Ints w, Ints x) {
    sum = _mm512_fmadd_ps((__m512)w, (__m512)x, sum);
  }
  static void DotBf16(Floats& sum, Ints w, Ints x) {
    constexpr auto kOdd = static_cast<int32_t>(0xffff0000);
    DotF32(sum, w << 16, x << 16);
    DotF32(sum, w & kOdd, x & kOdd);
  }
  static Ints AddInts(Ints a, Ints b) { return a + b; }
  static Ints LowNibbles(Ints w) { return w & 0x0f0f0f0f; }
  static Ints HighNibbles(Ints w) { return (w >> 4) & 0x0f0f0f0f; }
};

}  // namespace
}  // namespace idefics
