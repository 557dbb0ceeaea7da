// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/row_math.h"

#include "predictor/ops/clones.h"
#include "predictor/ops/unrolled.h"
#include "predictor/ops/vector_exp.h"
#include "predictor/ops/wide.h"

namespace idefics {
namespace {

template <typename T>
IDEFICS_INLINE void SiluMultiplyOf(const T* gate, const T* up, T* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = Wide(gate[i]);
    const T silu = Narrow<T>(g / (1.0f + Exp(-g)));
    out[i] = Narrow<T>(Wide(silu) * Wide(up[i]));
  }
}

template <typename T>
IDEFICS_INLINE void NarrowRowOf(const float* in, T* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = Narrow<T>(in[i]);
}

}  // namespace

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
