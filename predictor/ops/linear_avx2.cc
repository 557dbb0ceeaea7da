// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx2 -mfma.
#include <immintrin.h>

#include "predictor/ops/linear_tile.h"

namespace idefics {
namespace {

inline float TotalOf(__m256 sum) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
  const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

struct F32 {
  using Element = float;
  using Operand = __m256;
  using Sum = __m256;
  static constexpr int64_t kStep = 8;
  static constexpr int kTileM = 3;
  static constexpr int kTileN = 4;
  static Operand Load(const float* p) { return _mm256_loadu_ps(p); }
  static Operand LoadTail(const float* p, int64_t count) {
    float padded[8] = {};
    for (int64_t i = 0; i < count; ++i) padded[i] = p[i];
    return _mm256_loadu_ps(padded);
  }
  static void MultiplyAdd(Sum& sum, Operand x, Operand w) { sum = _mm256_fmadd_ps(x, w, sum); }
  static float Total(Sum sum) { return TotalOf(sum); }
  static float Widen(float value) { return value; }
  static float Narrow(float value) { return value; }
};

struct Bf16 {
  using Element = uint16_t;
  using Operand = __m256;
  using Sum = __m256;
  static constexpr int64_t kStep = 8;
  static constexpr int kTileM = 3;
  static constexpr int kTileN = 4;
  static Operand Load(const uint16_t* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Operand LoadTail(const uint16_t* p, int64_t count) {
    uint16_t padded[8] = {};
    for (int64_t i = 0; i < count; ++i) padded[i] = p[i];
    return Load(padded);
  }
  static void MultiplyAdd(Sum& sum, Operand x, Operand w) { sum = _mm256_fmadd_ps(x, w, sum); }
  static float Total(Sum sum) { return TotalOf(sum); }
  static float Widen(uint16_t bits) { return WidenBf16(bits); }
  static uint16_t Narrow(float value) { return NarrowBf16(value); }
};

}  // namespace

const LinearKernels* LinearKernelsAvx2() {
  static constexpr LinearKernels kKernels = {"avx2", LinearTiles<F32>::Run, LinearTiles<Bf16>::Run};
  return &kKernels;
}

}  // namespace idefics
