// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cpu/norm_rope_math.h"

#include <cmath>

#include "predictor/ops/cpu/inlining.h"
#include "predictor/ops/cpu/vector_math.h"

namespace idefics {
namespace {

template <typename T>
IDEFICS_INLINE void NormRowOf(const T* x, const T* weight, float eps, T* out, int64_t n) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += Wide(x[i + lane]) * Wide(x[i + lane]);
    }
  }
  float sum = 0;
  for (; i < n; ++i) sum += Wide(x[i]) * Wide(x[i]);
  for (const float lane : lanes) sum += lane;
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
  for (i = 0; i < n; ++i) {
    const T normal = static_cast<T>(Wide(x[i]) * scale);
    out[i] = static_cast<T>(Wide(weight[i]) * Wide(normal));
  }
}

template <typename T>
IDEFICS_INLINE void AddRowOf(const T* x, const T* y, const T* gate, int64_t gate_size, T* out,
                             int64_t n) {
  if (gate_size == 0) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(Wide(x[i]) + Wide(y[i]));
  } else if (gate_size == 1) {
    const float factor = Wide(*gate);
    for (int64_t i = 0; i < n; ++i) {
      out[i] = static_cast<T>(Wide(x[i]) + Wide(static_cast<T>(factor * Wide(y[i]))));
    }
  } else {
    for (int64_t i = 0; i < n; ++i) {
      out[i] = static_cast<T>(Wide(x[i]) + Wide(static_cast<T>(Wide(gate[i]) * Wide(y[i]))));
    }
  }
}

template <typename T>
IDEFICS_INLINE void RotateRowOf(const T* in, const float* cos, const float* sin, T* out,
                                int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float first = Wide(in[i]);
    const float second = Wide(in[i + half]);
    out[i] = static_cast<T>(first * cos[i] - second * sin[i]);
    out[i + half] = static_cast<T>(second * cos[i] + first * sin[i]);
  }
}

}  // namespace

IDEFICS_CLONES void NormRow(const float* x, const float* weight, float eps, float* out, int64_t n) {
  NormRowOf(x, weight, eps, out, n);
}
IDEFICS_CLONES void NormRow(const c10::BFloat16* x, const c10::BFloat16* weight, float eps,
                            c10::BFloat16* out, int64_t n) {
  NormRowOf(x, weight, eps, out, n);
}
IDEFICS_CLONES void NormRow(const c10::Half* x, const c10::Half* weight, float eps, c10::Half* out,
                            int64_t n) {
  NormRowOf(x, weight, eps, out, n);
}

IDEFICS_CLONES void AddRow(const float* x, const float* y, const float* gate, int64_t gate_size,
                           float* out, int64_t n) {
  AddRowOf(x, y, gate, gate_size, out, n);
}
IDEFICS_CLONES void AddRow(const c10::BFloat16* x, const c10::BFloat16* y,
                           const c10::BFloat16* gate, int64_t gate_size, c10::BFloat16* out,
                           int64_t n) {
  AddRowOf(x, y, gate, gate_size, out, n);
}
IDEFICS_CLONES void AddRow(const c10::Half* x, const c10::Half* y, const c10::Half* gate,
                           int64_t gate_size, c10::Half* out, int64_t n) {
  AddRowOf(x, y, gate, gate_size, out, n);
}

IDEFICS_CLONES void RotateRow(const float* in, const float* cos, const float* sin, float* out,
                              int64_t half) {
  RotateRowOf(in, cos, sin, out, half);
}
IDEFICS_CLONES void RotateRow(const c10::BFloat16* in, const float* cos, const float* sin,
                              c10::BFloat16* out, int64_t half) {
  RotateRowOf(in, cos, sin, out, half);
}
IDEFICS_CLONES void RotateRow(const c10::Half* in, const float* cos, const float* sin,
                              c10::Half* out, int64_t half) {
  RotateRowOf(in, cos, sin, out, half);
}

IDEFICS_CLONES float EncodeHead(const float* x, int64_t n, int8_t* codes) {
  return QuantizeGroup(x, n, codes).scale;
}
IDEFICS_CLONES float EncodeHead(const c10::BFloat16* x, int64_t n, int8_t* codes) {
  return QuantizeGroup(x, n, codes).scale;
}
IDEFICS_CLONES float EncodeHead(const c10::Half* x, int64_t n, int8_t* codes) {
  return QuantizeGroup(x, n, codes).scale;
}

}  // namespace idefics
