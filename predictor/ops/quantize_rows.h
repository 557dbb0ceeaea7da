// SPDX-License-Identifier: Apache-2.0
// Activations as 8-bit integers for the int8 and int4 kernels: each row and group of kGroup values
// has a scale of its own (as llama.cpp's Q8 blocks), so that one large value costs only its group
// precision.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>

namespace idefics {

// x [k] → q [words of k, zero-filled], value ≈ q · scale[group]; sum[group] of q. Groups:
// ceil(k/128). q: padded to `padded` values, a multiple of 8, at least k.
struct QuantizedRow {
  int8_t* q;
  float* scale;
  int32_t* sum;
};

void QuantizeRow(const float* x, int64_t k, int64_t padded, const QuantizedRow& row);
void QuantizeRow(const c10::BFloat16* x, int64_t k, int64_t padded, const QuantizedRow& row);
void QuantizeRow(const c10::Half* x, int64_t k, int64_t padded, const QuantizedRow& row);

}  // namespace idefics
