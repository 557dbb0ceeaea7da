// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cpu/row_math.h"

#include "predictor/ops/cpu/inlining.h"
#include "predictor/ops/cpu/vector_math.h"
#include "weights/linear_layout.h"

namespace idefics {
namespace {

template <typename T>
IDEFICS_INLINE void SiluMultiplyOf(const T* gate, const T* up, T* out, int64_t n) {
  // In two loops: in one, GCC would divide by e^88 too, beside each exponent that is not that
  // large, and quotients without an exponent of their own take a hundred cycles.
  constexpr int64_t kBlock = 64;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = n - begin < kBlock ? n : begin + kBlock;
    float powers[kBlock];
    for (int64_t i = begin; i < end; ++i) powers[i - begin] = Exp(-Wide(gate[i]));
    for (int64_t i = begin; i < end; ++i) {
      const T silu = Narrow<T>(Wide(gate[i]) / (1.0f + powers[i - begin]));
      out[i] = Narrow<T>(Wide(silu) * Wide(up[i]));
    }
  }
}

template <typename T>
IDEFICS_INLINE void NarrowRowOf(const float* in, T* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = Narrow<T>(in[i]);
}

template <typename T>
IDEFICS_INLINE void QuantizeRowOf(const T* x, int64_t k, int64_t padded, const QuantizedRow& row) {
  for (int64_t begin = 0, group = 0; begin < k; begin += kGroup, ++group) {
    const int64_t size = k - begin < kGroup ? k - begin : kGroup;
    // A row with infinity or NaN gets the scale NaN, which makes every output of the row NaN.
    const QuantizedGroup codes = QuantizeGroup(x + begin, size, row.q + begin);
    row.scale[group] = codes.scale;
    row.sum[group] = codes.sum;
  }
  std::memset(row.q + k, 0, padded - k);
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

IDEFICS_CLONES void QuantizeRow(const float* x, int64_t k, int64_t padded,
                                const QuantizedRow& row) {
  QuantizeRowOf(x, k, padded, row);
}
IDEFICS_CLONES void QuantizeRow(const c10::BFloat16* x, int64_t k, int64_t padded,
                                const QuantizedRow& row) {
  QuantizeRowOf(x, k, padded, row);
}
IDEFICS_CLONES void QuantizeRow(const c10::Half* x, int64_t k, int64_t padded,
                                const QuantizedRow& row) {
  QuantizeRowOf(x, k, padded, row);
}

IDEFICS_CLONES void WidenQuads(int64_t quads, int8_t* q) {
  constexpr int64_t kAtOnce = 16;  // read before they are written over
  for (int64_t end = quads; end > 0; end -= kAtOnce) {
    const int64_t begin = end > kAtOnce ? end - kAtOnce : 0;
    int8_t bytes[4 * kAtOnce];
    int16_t shorts[4 * kAtOnce];
    std::memcpy(bytes, q + 4 * begin, 4 * (end - begin));
    for (int64_t i = 0; i < 4 * (end - begin); i += 4) {
      shorts[i] = bytes[i];
      shorts[i + 1] = bytes[i + 2];
      shorts[i + 2] = bytes[i + 1];
      shorts[i + 3] = bytes[i + 3];
    }
    std::memcpy(q + 8 * begin, shorts, 8 * (end - begin));
  }
}

}  // namespace idefics
