// SPDX-License-Identifier: Apache-2.0
// Sampling tokens where the logits are: the reference and CPU versions, which work in place on CPU
// tensors and on copies of others. Shapes in ../README.md. Thread safe.
#pragma once

#include <ATen/core/Tensor.h>

namespace idefics {

// Throw c10::Error unless dtypes, shapes and devices are those of ../README.md.
void CheckSampleTokens(const at::Tensor& logits, const at::Tensor& sampling_params,
                       const at::Tensor& history);
void CheckGatherLastTokens(const at::Tensor& tokens, const at::Tensor& kv_slots,
                           const at::Tensor& history);

namespace reference {

// Throw c10::Error also where a row or slot is outside of `history`.
at::Tensor SampleTokens(at::Tensor logits, const at::Tensor& sampling_params, at::Tensor history);
at::Tensor GatherLastTokens(const at::Tensor& tokens, const at::Tensor& kv_slots,
                            at::Tensor history);

}  // namespace reference
}  // namespace idefics
