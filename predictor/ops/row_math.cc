// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/row_math.h"

#include <cmath>

#include "predictor/ops/clones.h"
#include "predictor/ops/wide.h"

namespace idefics {
namespace {

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
    const T silu = static_cast<T>(g / (1.0f + std::exp(-g)));
    out[i] = static_cast<T>(Wide(silu) * Wide(up[i]));
  }
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

}  // namespace idefics
