// SPDX-License-Identifier: Apache-2.0
// What the versions of add_norm that are not the reference take.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace idefics {

// Rows that lie one behind the other, everything of one dtype, and a gate of one number or a row of
// them. Other tensors are the reference's.
inline bool CanAddNorm(const at::Tensor& x, const at::Tensor& y,
                       const std::optional<at::Tensor>& gate, const at::Tensor& weight) {
  const auto alike = [&](const at::Tensor& tensor) {
    return tensor.scalar_type() == x.scalar_type() && tensor.device() == x.device() &&
           tensor.is_contiguous();
  };
  const int64_t size = weight.numel();
  return x.dim() >= 1 && size > 0 && x.size(-1) == size && y.sizes() == x.sizes() && alike(x) &&
         alike(y) && alike(weight) &&
         (!gate || (alike(*gate) && (gate->numel() == 1 || gate->numel() == size)));
}

}  // namespace idefics
