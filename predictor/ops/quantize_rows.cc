// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/quantize_rows.h"

#include <cstring>

#include "predictor/ops/clones.h"
#include "predictor/ops/linear_kernels.h"
#include "predictor/ops/unrolled.h"
#include "predictor/ops/wide.h"

namespace idefics {
namespace {

constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: adding it rounds to the nearest integer, even
constexpr uint32_t kInfinityBits = 0x7f800000;

template <typename T>
IDEFICS_INLINE void QuantizeRowOf(const T* x, int64_t k, int64_t padded, const QuantizedRow& row) {
  for (int64_t begin = 0, group = 0; begin < k; begin += kGroup, ++group) {
    const int64_t end = begin + kGroup < k ? begin + kGroup : k;
    uint32_t largest_bits = 0;  // of positive floats: their order is that of their bits
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t bits = __builtin_bit_cast(uint32_t, Wide(x[i])) & 0x7fffffff;
      largest_bits = bits > largest_bits ? bits : largest_bits;
    }
    const float largest = __builtin_bit_cast(float, largest_bits);
    // Not a number or infinite: so becomes every output of the row.
    const bool finite = largest_bits < kInfinityBits;
    const float inverse = finite && largest > 0 ? 127.0f / largest : 0.0f;
    int32_t sum = 0;
    if (finite) {
      for (int64_t i = begin; i < end; ++i) {
        const auto q = static_cast<int32_t>((Wide(x[i]) * inverse + kRound) - kRound);
        row.q[i] = static_cast<int8_t>(q);
        sum += q;
      }
    } else {
      std::memset(row.q + begin, 0, end - begin);
    }
    row.scale[group] = finite ? largest / 127.0f : __builtin_nanf("");
    row.sum[group] = sum;
  }
  std::memset(row.q + k, 0, padded - k);
}

}  // namespace

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

}  // namespace idefics
