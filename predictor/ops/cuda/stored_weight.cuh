// SPDX-License-Identifier: Apache-2.0
// The stored tensors of a linear as the kernels take them.
#pragma once

#include <ATen/core/Tensor.h>

#include "predictor/ops/cuda/packed_words.cuh"

namespace idefics::IDEFICS_TARGET {

// The stored tensors of a linear; scale is undefined where the form has none.
struct StoredWeight {
  at::Tensor weight;
  at::Tensor scale;

  template <typename Packed>
  PackedWords As(int64_t k) const {
    return {.at = static_cast<const uint32_t*>(weight.const_data_ptr()),
            .scale = scale.defined() ? scale.const_data_ptr() : nullptr,
            .k = static_cast<int>(k),
            .steps = static_cast<int>(CeilDiv(k, Packed::kValues)),
            .rows = static_cast<int>(weight.size(1))};
  }
};

inline void CheckReadable(const at::Tensor& stored, const at::Tensor& x) {
  TORCH_CHECK(stored.device() == x.device() &&
                  reinterpret_cast<uintptr_t>(stored.const_data_ptr()) % sizeof(Vec16B) == 0,
              "a linear of rows on ", x.device(), " takes a weight there, aligned to ",
              sizeof(Vec16B), " bytes, not one on ", stored.device());
}

}  // namespace idefics::IDEFICS_TARGET
