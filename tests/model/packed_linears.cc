// SPDX-License-Identifier: Apache-2.0
#include "tests/model/packed_linears.h"

#include <ATen/ATen.h>

#include "predictor/ops/linear_kernels.h"

namespace idefics::test {
namespace {

int64_t Padded(int64_t size, int64_t step) { return (size + step - 1) / step * step; }

}  // namespace

at::Tensor Tiled(const at::Tensor& w, int64_t values) {
  const int64_t tiles = Padded(w.size(0), kTileColumns) / kTileColumns;
  const int64_t k = Padded(w.size(1), values);
  at::Tensor padded = at::zeros({tiles * kTileColumns, k}, w.options());
  padded.narrow(0, 0, w.size(0)).narrow(1, 0, w.size(1)).copy_(w);
  return padded.view({tiles, kTileColumns, k / values, values}).permute({0, 2, 1, 3}).contiguous();
}

Quantized RandomInt8(const LinearSize& size) {
  const at::Tensor q = at::randint(-127, 128, {size.n, size.k}, at::kInt);
  const int64_t tiles = Padded(size.n, kTileColumns) / kTileColumns;
  const at::Tensor weight = (Tiled(q, 4) + 128).to(at::kByte);
  return {weight, at::rand({tiles, kTileColumns}) * 0.01 + 0.001};
}

Quantized RandomInt4(const LinearSize& size) {
  const at::Tensor u = at::randint(0, 16, {size.n, size.k}, at::kInt);
  const at::Tensor quads = Tiled(u, 8);  // low nibbles: the first four values
  const at::Tensor weight =
      (quads.narrow(3, 0, 4) + quads.narrow(3, 4, 4) * 16).to(at::kByte).contiguous();
  const int64_t groups = Padded(size.k, kGroup) / kGroup;
  const at::Tensor scale = at::rand({weight.size(0), groups, 2, kTileColumns}) * 0.02 - 0.005;
  return {weight, scale.to(at::kBFloat16)};
}

}  // namespace idefics::test
