// SPDX-License-Identifier: Apache-2.0
// y = x Wᵀ on the CPU, x [..., k] f32 or bf16, W [n, k] in a layout of packed_weight.h → [..., n]
// in x's type. Throws c10::Error where shapes or types do not fit. Thread safe.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "predictor/ops/cpu/linear_kernels.h"

namespace idefics {

// Other types than f32 and bf16, or two different ones, go to the reference.
at::Tensor LinearPacked(const at::Tensor& x, const at::Tensor& weight, int64_t n,
                        const LinearKernels& kernels);
at::Tensor LinearInt8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n, const LinearKernels& kernels);
at::Tensor LinearInt4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n, const LinearKernels& kernels);

// Those of ChooseInstructionSet() (instruction_sets.h). Throws c10::Error with its sentence where
// there are none.
const LinearKernels& ChooseLinearKernels();

}  // namespace idefics
