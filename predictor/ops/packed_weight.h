// SPDX-License-Identifier: Apache-2.0
// The stored forms of a linear's weight W [n, k] and the way back to W. Columns (output features)
// lie in tiles of 64, T = ceil(n / 64); what is missing to whole tiles and chunks contributes
// nothing. Written by scripts/export/packing.py. Plain ATen on any device, thread safe; every
// function throws c10::Error where a shape or type is none of these:
//   f32       [T, k, 64]              w[t, i, c]    = W[64t + c, i]
//   bf16, f16 [T, ceil(k/2), 64, 2]   w[t, i, c, j] = W[64t + c, 2i + j]
//   int8      u8 [T, ceil(k/4), 64, 4]  w[t, i, c, j] = q[64t + c, 4i + j] + 128; W = scale q
//             scale f32 [T, 64]
//   int4      u8 [T, ceil(k/8), 64, 4]  low half u[64t + c, 8i + j], high half u[.., 8i + 4 + j];
//             scale bf16 [T, ceil(k/128), 2, 64]: step s, minimum m; W = s u + m by groups of 128 k
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "predictor/ops/ceil_div.h"
#include "predictor/ops/linear_kernels.h"

namespace idefics {

// That the tensors are contiguous and have the type and shape of their form.
void CheckPacked(const at::Tensor& weight, int64_t n, int64_t k);
void CheckInt8(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k);
void CheckInt4(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k);

// W in the weight's own type: f32, bf16 or f16.
at::Tensor UnpackWeight(const at::Tensor& weight, int64_t n, int64_t k);

// W in f32.
at::Tensor DequantizeInt8(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k);
at::Tensor DequantizeInt4(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k);

}  // namespace idefics
