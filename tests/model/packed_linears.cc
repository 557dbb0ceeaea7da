// SPDX-License-Identifier: Apache-2.0
#include "tests/model/packed_linears.h"

#include <ATen/ATen.h>

#include "predictor/ops/packed_weight.h"

namespace idefics::test {
at::Tensor Tiled(const at::Tensor& w, int64_t values) {
  const int64_t tiles = CeilDiv(w.size(0), kTileColumns);
  const int64_t k = CeilDiv(w.size(1), values) * values;
  at::Tensor padded = at::zeros({tiles * kTileColumns, k}, w.options());
  padded.narrow(0, 0, w.size(0)).narrow(1, 0, w.size(1)).copy_(w);
  return padded.view({tiles, kTileColumns, k / values, values}).permute({0, 2, 1, 3}).contiguous();
}

Quantized RandomInt8(const LinearSize& size) {
  const at::Tensor q = at::randint(-127, 128, {size.n, size.k}, at::kInt);
  const int64_t tiles = CeilDiv(size.n, kTileColumns);
  const at::Tensor weight = (Tiled(q, 4) + 128).to(at::kByte);
  return {weight, at::rand({tiles, kTileColumns}) * 0.01 + 0.001};
}

Quantized RandomInt4(const LinearSize& size) {
  const at::Tensor u = at::randint(0, 16, {size.n, size.k}, at::kInt);
  const at::Tensor quads = Tiled(u, 8);  // low nibbles: the first four values
  const at::Tensor weight =
      (quads.narrow(3, 0, 4) + quads.narrow(3, 4, 4) * 16).to(at::kByte).contiguous();
  const int64_t groups = CeilDiv(size.k, kGroup);
  const at::Tensor scale = at::rand({weight.size(0), groups, 2, kTileColumns}) * 0.02 - 0.005;
  return {weight, scale.to(at::kBFloat16)};
}

std::vector<LinearOperator> LinearOperators(const Operators& operators, const LinearSize& size,
                                            at::ScalarType type, at::Device device) {
  const at::Tensor w = at::randn({size.n, size.k}).to(type);
  const at::Tensor packed = (type == at::kFloat ? Tiled(w, 1).squeeze(3) : Tiled(w, 2)).to(device);
  const auto moved = [&](const Quantized& host) {
    return Quantized{host.weight.to(device), host.scale.to(device)};
  };
  const at::Tensor fp8 = QuantizeToFp8(packed);
  const Quantized int8 = moved(RandomInt8(size));
  const Quantized int4 = moved(RandomInt4(size));
  const int64_t n = size.n;
  return {
      {"packed", w.to(device, at::kFloat),
       [=](const at::Tensor& x) { return operators.linear_packed(x, packed, n); }},
      {"fp8", DequantizeFp8(fp8, n, size.k),
       [=](const at::Tensor& x) { return operators.linear_packed(x, fp8, n); }, true},
      {"int8", DequantizeInt8(int8.weight, int8.scale, n, size.k),
       [=](const at::Tensor& x) { return operators.linear_int8(x, int8.weight, int8.scale, n); }},
      {"int4", DequantizeInt4(int4.weight, int4.scale, n, size.k),
       [=](const at::Tensor& x) { return operators.linear_int4(x, int4.weight, int4.scale, n); }},
  };
}

at::Tensor RowsInFp8(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kCPU).to(at::kFloat);  // CUDA divides by a number otherwise
  const at::Tensor largest = wide.abs().amax(1, /*keepdim=*/true) / 448;
  const at::Tensor scale = largest.masked_fill(largest == 0, 1);
  const at::Tensor q = (wide / scale).clamp(-448, 448).to(at::kFloat8_e4m3fn);
  return (q.to(at::kDouble) * scale).to(x.device());
}

at::Tensor ProductInDouble(const at::Tensor& x, const LinearOperator& linear, bool supports_fp8) {
  const bool many = x.size(0) > 32;
  const bool both_fp8 = many && linear.fp8 && supports_fp8 && x.scalar_type() == at::kBFloat16 &&
                        x.size(1) % 16 == 0 && linear.w.size(0) % 16 == 0;
  const at::Tensor rows = both_fp8 ? RowsInFp8(x) : x.to(at::kDouble);
  const bool int8_tiles =
      linear.name == "int8" && x.size(0) <= 128 && x.size(1) % 8 == 0 && x.element_size() == 2;
  const at::Tensor w = many && !both_fp8 && !int8_tiles ? linear.w.to(x.scalar_type()) : linear.w;
  return at::matmul(rows, w.to(at::kDouble).t()).to(x.scalar_type());
}

}  // namespace idefics::test
