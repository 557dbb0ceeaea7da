// SPDX-License-Identifier: Apache-2.0
// Choosing tokens where the logits are: the reference and CPU versions, which work in place on CPU
// tensors and on copies of others. Shapes in README.md. Thread safe.
#pragma once

#include <ATen/core/Tensor.h>

namespace idefics {

// Throw c10::Error unless dtypes, shapes and devices are those of README.md.
void CheckChooseTokens(const at::Tensor& logits, const at::Tensor& choices,
                       const at::Tensor& history);
void CheckTakeTokens(const at::Tensor& tokens, const at::Tensor& kv_slots,
                     const at::Tensor& history);

namespace reference {

// Throw c10::Error as well where a row or slot lies outside of `history`.
at::Tensor ChooseTokens(at::Tensor logits, const at::Tensor& choices, at::Tensor history);
at::Tensor TakeTokens(const at::Tensor& tokens, const at::Tensor& kv_slots, at::Tensor history);

}  // namespace reference
}  // namespace idefics
