// SPDX-License-Identifier: Apache-2.0
// The idefics:: operators as a library, and what their versions share. They register themselves
// with torch when the library is loaded (schema.cc).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>

#include <optional>

namespace idefics {

// Does nothing. A call keeps the library linked: linkers that work "as needed" (Debian's and
// Ubuntu's) drop a shared library to which no code refers.
void UseOperators();

// From now on all operators but the linears are the plain ATen ones of reference.h, on every
// device: for comparison. Not thread safe; before a model is loaded.
void UseReferenceOperators();

// Calls run(T{}) with the C++ type of `type`: f32, bf16 or f16. Throws c10::Error for others.
template <typename Run>
void ForElementType(c10::ScalarType type, const char* op, const Run& run) {
  switch (type) {
    case c10::ScalarType::Float:
      return run(float{});
    case c10::ScalarType::BFloat16:
      return run(c10::BFloat16{});
    case c10::ScalarType::Half:
      return run(c10::Half{});
    default:
      TORCH_CHECK(false, op, " takes f32, bf16 or f16, not ", type);
  }
}

// Whether the CPU and CUDA versions of add_norm take these tensors; otherwise the reference does.
// Everything is contiguous and of one dtype; the gate has one number, or one for each column.
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
