// SPDX-License-Identifier: Apache-2.0
// Compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq.
#include <immintrin.h>

#include "predictor/ops/linear_tile.h"

namespace idefics {
namespace {

inline __mmask16 FirstLanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }

struct F32 {
  using Element = float;
  using Operand = __m512;
  using Sum = __m512;
  static constexpr int64_t kStep = 16;
  static constexpr int kTileM = 4;
  static constexpr int kTileN = 6;
  static Operand Load(const float* p) { return _mm512_loadu_ps(p); }
  static Operand LoadTail(const float* p, int64_t count) {
    return _mm512_maskz_loadu_ps(FirstLanes(count), p);
  }
  static void MultiplyAdd(Sum& sum, Operand x, Operand w) { sum = _mm512_fmadd_ps(x, w, sum); }
  static float Total(Sum sum) { return _mm512_reduce_add_ps(sum); }
  static float Widen(float value) { return value; }
  static float Narrow(float value) { return value; }
};

struct Bf16 {
  using Element = uint16_t;
  using Operand = __m512;
  using Sum = __m512;
  static constexpr int64_t kStep = 16;
  static constexpr int kTileM = 4;
  static constexpr int kTileN = 6;
  static Operand Wide(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static Operand Load(const uint16_t* p) {
    return Wide(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Operand LoadTail(const uint16_t* p, int64_t count) {
    return Wide(_mm256_maskz_loadu_epi16(FirstLanes(count), p));
  }
  static void MultiplyAdd(Sum& sum, Operand x, Operand w) { sum = _mm512_fmadd_ps(x, w, sum); }
  static float Total(Sum sum) { return _mm512_reduce_add_ps(sum); }
  static float Widen(uint16_t bits) { return WidenBf16(bits); }
  static uint16_t Narrow(float value) { return NarrowBf16(value); }
};

}  // namespace

const LinearKernels* LinearKernelsAvx512() {
  static constexpr LinearKernels kKernels = {"avx512", LinearTiles<F32>::Run,
                                             LinearTiles<Bf16>::Run};
  return &kKernels;
}

}  // namespace idefics
