// SPDX-License-Identifier: Apache-2.0
// Random linears in the stored forms of predictor/ops/packed_weight.h, for tests. Made on the CPU
// by the default generator.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace idefics::test {

struct LinearSize {
  int64_t n, k;
};

// W [n, k] → [tiles, k / values, 64, values], zero-filled; one value of it is one of a word.
at::Tensor Tiled(const at::Tensor& w, int64_t values);

struct Quantized {
  at::Tensor weight, scale;
};

Quantized RandomInt8(const LinearSize& size);
Quantized RandomInt4(const LinearSize& size);

}  // namespace idefics::test
