// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/packed_weight.h"

#include <ATen/ATen.h>

namespace idefics {
namespace {

void CheckStored(const at::Tensor& tensor, const char* what, at::ScalarType type,
                 at::IntArrayRef shape) {
  TORCH_CHECK(tensor.scalar_type() == type && tensor.sizes() == shape && tensor.is_contiguous(),
              what, " of a linear of these sizes must be ", at::toString(type), " ", shape,
              ", contiguous, not ", at::toString(tensor.scalar_type()), " ", tensor.sizes());
}

// [T, chunks, 64, (more,)] -> [n, k]: the values of one column behind each other.
at::Tensor Rows(const at::Tensor& tiled, int64_t n, int64_t k) {
  return tiled.movedim(2, 1)
      .reshape({tiled.size(0) * kTileColumns, -1})
      .narrow(0, 0, n)
      .narrow(1, 0, k);
}

}  // namespace

void CheckPacked(const at::Tensor& weight, int64_t n, int64_t k) {
  const at::ScalarType type = weight.scalar_type();
  const int64_t tiles = CeilDiv(n, kTileColumns);
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16 || type == at::kHalf,
              "a packed weight is f32, bf16 or f16, not ", at::toString(type));
  if (type == at::kFloat) {
    CheckStored(weight, "the packed weight", type, {tiles, k, kTileColumns});
  } else {
    CheckStored(weight, "the packed weight", type, {tiles, CeilDiv(k, 2), kTileColumns, 2});
  }
}

void CheckInt8(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k) {
  const int64_t tiles = CeilDiv(n, kTileColumns);
  CheckStored(weight, "the int8 weight", at::kByte, {tiles, CeilDiv(k, 4), kTileColumns, 4});
  CheckStored(scale, "the int8 weight's scale", at::kFloat, {tiles, kTileColumns});
}

void CheckInt4(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k) {
  const int64_t tiles = CeilDiv(n, kTileColumns);
  CheckStored(weight, "the int4 weight", at::kByte, {tiles, CeilDiv(k, 8), kTileColumns, 4});
  CheckStored(scale, "the int4 weight's scale", at::kBFloat16,
              {tiles, CeilDiv(k, kGroup), 2, kTileColumns});
}

at::Tensor UnpackWeight(const at::Tensor& weight, int64_t n, int64_t k) {
  CheckPacked(weight, n, k);
  return Rows(weight, n, k).contiguous();
}

at::Tensor DequantizeInt8(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k) {
  CheckInt8(weight, scale, n, k);
  const at::Tensor q = Rows(weight, n, k).to(at::kFloat) - 128;
  return q * scale.reshape({-1, 1}).narrow(0, 0, n);
}

at::Tensor DequantizeInt4(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k) {
  CheckInt4(weight, scale, n, k);
  const int64_t groups = scale.size(1);
  const at::Tensor halves = at::stack({weight.bitwise_and(15), weight.bitwise_right_shift(4)}, 3);
  const at::Tensor u = Rows(halves, n, k).to(at::kFloat);
  // [T, G, 64] -> [n, k]
  const auto spread = [&](int64_t which) {
    return scale.select(2, which)
        .transpose(1, 2)
        .reshape({-1, groups})
        .narrow(0, 0, n)
        .repeat_interleave(kGroup, 1)
        .narrow(1, 0, k)
        .to(at::kFloat);
  };
  return u * spread(0) + spread(1);
}

}  // namespace idefics
