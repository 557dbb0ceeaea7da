// SPDX-License-Identifier: Apache-2.0
// y = x Wᵀ on the CPU, x [..., k] f32 or bf16, W [n, k] in a layout of packed_weight.h → [..., n]
// in x's type. Throws c10::Error where shapes or types do not fit. Thread safe.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "predictor/ops/linear_kernels.h"

namespace idefics {

// x and weight of another type than f32 or bf16, or of two types, go to the reference.
at::Tensor LinearPacked(const at::Tensor& x, const at::Tensor& weight, int64_t n,
                        const LinearKernels& kernels);
at::Tensor LinearInt8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n, const LinearKernels& kernels);
at::Tensor LinearInt4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n, const LinearKernels& kernels);

}  // namespace idefics
