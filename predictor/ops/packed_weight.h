// SPDX-License-Identifier: Apache-2.0
// The stored forms of a linear's weight W [n, k] (weights/linear_layout.h) and the way back to W.
// Columns (output features) are in tiles of 64, T = ceil(n / 64); padding to whole tiles and chunks
// contributes nothing. Written by scripts/export/packing.py. Plain ATen on any device, thread safe;
// every function throws c10::Error where a shape or type is none of these:
//   f32       [T, k, 64]              w[t, i, c]    = W[64t + c, i]
//   bf16, f16 [T, ceil(k/2), 64, 2]   w[t, i, c, j] = W[64t + c, 2i + j]
//   int8      u8 [T, ceil(k/4), 64, 4]  w[t, i, c, j] = q[64t + c, 4i + j] + 128; W = scale q
//             scale f32 [T, 64]
//   int4      u8 [T, ceil(k/8), 64, 4]  low half u[64t + c, 8i + j], high half u[.., 8i + 4 + j];
//             scale bf16 [T, ceil(k/128), 2, 64]: step s, minimum m; W = s u + m by groups of 128 k
//   fp8       e4m3fn [T, 4 ceil(k/16) + 1, 64, 4], a container: the rows of W divided by their
//   scales,
//             [64 T, 16 ceil(k/16)], zeros beyond k, then the scales, f32 [64 T]. cuBLAS multiplies
//             it as it is. No bundle has it: it is made of one of the first two while loading.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "weights/linear_layout.h"

namespace idefics {

// Check that the tensors are contiguous and have the type and shape of their form.
void CheckPacked(const at::Tensor& weight, int64_t n, int64_t k);
void CheckInt8(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k);
void CheckInt4(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k);
void CheckFp8(const at::Tensor& weight, int64_t n, int64_t k);

// W in the weight's own type: f32, bf16 or f16.
at::Tensor UnpackWeight(const at::Tensor& weight, int64_t n, int64_t k);

// W in f32.
at::Tensor DequantizeInt8(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k);
at::Tensor DequantizeInt4(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k);
at::Tensor DequantizeFp8(const at::Tensor& weight, int64_t n, int64_t k);

// Whether tensor cores of this CUDA compute capability multiply fp8.
constexpr bool SupportsFp8(int major, int minor) { return major * 10 + minor >= 89; }

inline bool IsFp8(const at::Tensor& weight) { return weight.scalar_type() == at::kFloat8_e4m3fn; }

// What an fp8 weight holds, as views: e4m3 [n, k] of rows that are a multiple of 16 bytes apart,
// and f32 [64 T].
at::Tensor Fp8Rows(const at::Tensor& weight, int64_t n, int64_t k);
at::Tensor Fp8Scales(const at::Tensor& weight);

// f32, bf16 or f16 → fp8. A column's largest number becomes ±448 and the others the nearest e4m3,
// ties to even. A column of zeros gets scale 1; the scale of a column that holds infinity or NaN is
// not finite. Needs memory for the result and some 100 MiB.
at::Tensor QuantizeToFp8(const at::Tensor& weight);

}  // namespace idefics
