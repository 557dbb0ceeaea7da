// SPDX-License-Identifier: Apache-2.0
// What the kernels of 256 bits share. Included only by linear_avx2.cc and linear_avx_vnni.cc, whose
// anonymous namespaces derive from it; see linear_tile.h.
#pragma once

#include <immintrin.h>

#include "predictor/ops/cpu/linear_loops.h"

namespace idefics {
namespace {

struct Avx2Base {
  using Floats = __m256;
  using Ints = __m256i;
  static constexpr int kLanes = 8;
  static constexpr bool kSignedDot = false;
  static constexpr bool kWideBlocks = false;
  static constexpr bool kRowPairs = false;
  static constexpr bool kStreamHints = false;
  static constexpr int kMaxRows = 6;
  static constexpr int kBlockRows = 6;
  static constexpr int64_t kFloatBlockSteps = 128;  // the L1 cache
  static constexpr int Vectors(int rows) { return rows == 1 ? 8 : rows == 2 ? 4 : 2; }

  static Floats Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, Floats value) { _mm256_storeu_ps(p, value); }
  static Floats ZeroFloats() { return _mm256_setzero_ps(); }
  static Floats SetFloat(float value) { return _mm256_set1_ps(value); }
  static Ints SetInt(int32_t value) { return _mm256_set1_epi32(value); }
  static Floats ToFloats(Ints value) { return _mm256_cvtepi32_ps(value); }
  static Floats MultiplyAdd(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats Multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats WidenBf16(const uint16_t* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Ints LoadWords(const uint32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static void StoreWords(uint32_t* p, Ints words) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), words);
  }
  static Ints BroadcastWord(const uint32_t* p) {
    return _mm256_set1_epi32(static_cast<int32_t>(*p));
  }
  static void DotF32(Floats& sum, Ints w, Ints x) {
    sum = _mm256_fmadd_ps(_mm256_castsi256_ps(w), _mm256_castsi256_ps(x), sum);
  }
  static void DotBf16(Floats& sum, Ints w, Ints x) {
    const Ints odd = _mm256_set1_epi32(static_cast<int32_t>(0xffff0000));
    DotF32(sum, _mm256_slli_epi32(w, 16), _mm256_slli_epi32(x, 16));
    DotF32(sum, _mm256_and_si256(w, odd), _mm256_and_si256(x, odd));
  }
  static Ints LowNibbles(Ints w) { return _mm256_and_si256(w, _mm256_set1_epi8(0x0f)); }
  static Ints HighNibbles(Ints w) {
    return _mm256_and_si256(_mm256_srli_epi32(w, 4), _mm256_set1_epi8(0x0f));
  }
  static Ints AddInts(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
};

}  // namespace
}  // namespace idefics
