// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/row_math.h"

#include <bit>

#include "predictor/ops/clones.h"
#include "predictor/ops/wide.h"

namespace idefics {
namespace {

// e^x without a call, so that a loop of it vectorises: Cephes' expf, 2 units in the last place.
// Below -87 and above 88 it stays finite.
inline __attribute__((always_inline)) float Exp(float x) {
  constexpr float kRound =
      12582912.0f;  // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
  x = x > 88.0f ? 88.0f : x;
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 1.44269504f + kRound;
  const float power = shifted - kRound;
  const float r = (x - power * 0.693359375f) + power * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto exponent = (std::bit_cast<uint32_t>(shifted) << 23) + (127u << 23);
  return p * std::bit_cast<float>(exponent);
}

template <typename T>
inline __attribute__((always_inline)) float DotOf(const float* a, const T* b, int64_t n) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * Wide(b[i + lane]);
  }
  float sum = 0;
  for (; i < n; ++i) sum += a[i] * Wide(b[i]);
  for (const float lane : lanes) sum += lane;
  return sum;
}

template <typename T>
inline __attribute__((always_inline)) void ScaleAddOf(float* out, float keep, float weight,
                                                      const T* row, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = out[i] * keep + weight * Wide(row[i]);
}

template <typename T>
inline __attribute__((always_inline)) void SiluMultiplyOf(const T* gate, const T* up, T* out,
                                                          int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = Wide(gate[i]);
    const T silu = Narrow<T>(g / (1.0f + Exp(-g)));
    out[i] = Narrow<T>(Wide(silu) * Wide(up[i]));
  }
}

template <typename T>
inline __attribute__((always_inline)) void NarrowRowOf(const float* in, T* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = Narrow<T>(in[i]);
}

}  // namespace

IDEFICS_CLONES float Dot(const float* a, const float* b, int64_t n) { return DotOf(a, b, n); }
IDEFICS_CLONES float Dot(const float* a, const c10::BFloat16* b, int64_t n) {
  return DotOf(a, b, n);
}
IDEFICS_CLONES float Dot(const float* a, const c10::Half* b, int64_t n) { return DotOf(a, b, n); }

IDEFICS_CLONES void ScaleAdd(float* out, float keep, float weight, const float* row, int64_t n) {
  ScaleAddOf(out, keep, weight, row, n);
}
IDEFICS_CLONES void ScaleAdd(float* out, float keep, float weight, const c10::BFloat16* row,
                             int64_t n) {
  ScaleAddOf(out, keep, weight, row, n);
}
IDEFICS_CLONES void ScaleAdd(float* out, float keep, float weight, const c10::Half* row,
                             int64_t n) {
  ScaleAddOf(out, keep, weight, row, n);
}

IDEFICS_CLONES void SiluMultiply(const float* gate, const float* up, float* out, int64_t n) {
  SiluMultiplyOf(gate, up, out, n);
}
IDEFICS_CLONES void SiluMultiply(const c10::BFloat16* gate, const c10::BFloat16* up,
                                 c10::BFloat16* out, int64_t n) {
  SiluMultiplyOf(gate, up, out, n);
}
IDEFICS_CLONES void SiluMultiply(const c10::Half* gate, const c10::Half* up, c10::Half* out,
                                 int64_t n) {
  SiluMultiplyOf(gate, up, out, n);
}

IDEFICS_CLONES void NarrowRow(const float* in, float* out, int64_t n) { NarrowRowOf(in, out, n); }
IDEFICS_CLONES void NarrowRow(const float* in, c10::BFloat16* out, int64_t n) {
  NarrowRowOf(in, out, n);
}
IDEFICS_CLONES void NarrowRow(const float* in, c10::Half* out, int64_t n) {
  NarrowRowOf(in, out, n);
}

}  // namespace idefics
