// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/packed_weight.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace idefics {
namespace {

constexpr double kLargestFp8 = 448;

at::ScalarType ScalarTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF16:
      return at::kHalf;
    case DType::kU8:
      return at::kByte;
    case DType::kF8E4M3:
      return at::kFloat8_e4m3fn;
    default:
      return at::kFloat;
  }
}

void CheckStored(const at::Tensor& tensor, const char* what, const StoredTensor& stored) {
  const at::ScalarType type = ScalarTypeOf(stored.dtype);
  const at::IntArrayRef shape(stored.sizes, static_cast<size_t>(stored.rank));
  TORCH_CHECK(tensor.scalar_type() == type && tensor.sizes() == shape && tensor.is_contiguous(),
              what, " of a linear of these sizes must be ", at::toString(type), " ", shape,
              ", contiguous, not ", at::toString(tensor.scalar_type()), " ", tensor.sizes());
}

// The form of a weight that is not quantized, by its type.
LinearForm PackedForm(at::ScalarType type) {
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16 || type == at::kHalf,
              "a packed weight is f32, bf16 or f16, not ", at::toString(type));
  if (type == at::kFloat) return LinearForm::kF32;
  return type == at::kHalf ? LinearForm::kF16 : LinearForm::kBF16;
}

// [T, chunks, 64 (, values)] → [n, k]: the values of a column become contiguous.
at::Tensor Untile(const at::Tensor& tiled, int64_t n, int64_t k) {
  return tiled.movedim(2, 1)
      .reshape({tiled.size(0) * kTileColumns, -1})
      .narrow(0, 0, n)
      .narrow(1, 0, k);
}

// Packed [t, chunks, 64 (, values)] → e4m3 [t, steps + 1, 64, 4].
at::Tensor QuantizeTiles(const at::Tensor& packed) {
  const int64_t tiles = packed.size(0);
  const int64_t values = packed.dim() == 4 ? packed.size(3) : 1;
  const int64_t per_step = 4 / values;  // chunks of a step
  const at::Tensor whole = at::constant_pad_nd(
      packed.to(at::kFloat).view({tiles, -1, kTileColumns, values}),
      {0, 0, 0, 0, 0, CeilDiv(packed.size(1), per_step) * per_step - packed.size(1)});
  const at::Tensor w = whole.view({tiles, -1, per_step, kTileColumns, values})
                           .transpose(2, 3)
                           .reshape({tiles, -1, kTileColumns, 4});
  const at::Tensor largest = at::maximum(w.amax({1, 3}, true), -w.amin({1, 3}, true)) / kLargestFp8;
  const at::Tensor scale = largest.masked_fill(largest == 0, 1);  // [t, 1, 64, 1]
  const at::Tensor q = (w / scale).clamp(-kLargestFp8, kLargestFp8).to(at::kFloat8_e4m3fn);
  return at::cat({q.view(at::kByte), scale.view(at::kByte)}, 1).view(at::kFloat8_e4m3fn);
}

constexpr int64_t kQuantizedNumbers = int64_t{1} << 22;  // at a time; each takes some 20 bytes

}  // namespace

void CheckPacked(const at::Tensor& weight, int64_t n, int64_t k) {
  CheckStored(weight, "the packed weight", LayoutOf(PackedForm(weight.scalar_type()), n, k).weight);
}

void CheckInt8(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k) {
  const LinearLayout layout = LayoutOf(LinearForm::kInt8, n, k);
  CheckStored(weight, "the int8 weight", layout.weight);
  CheckStored(scale, "the int8 weight's scale", layout.scale);
}

void CheckInt4(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k) {
  const LinearLayout layout = LayoutOf(LinearForm::kInt4, n, k);
  CheckStored(weight, "the int4 weight", layout.weight);
  CheckStored(scale, "the int4 weight's scale", layout.scale);
}

void CheckFp8(const at::Tensor& weight, int64_t n, int64_t k) {
  CheckStored(weight, "the fp8 weight", LayoutOf(LinearForm::kFp8, n, k).weight);
}

at::Tensor UnpackWeight(const at::Tensor& weight, int64_t n, int64_t k) {
  CheckPacked(weight, n, k);
  return Untile(weight, n, k).contiguous();
}

at::Tensor DequantizeInt8(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k) {
  CheckInt8(weight, scale, n, k);
  const at::Tensor q = Untile(weight, n, k).to(at::kFloat) - 128;
  return q * scale.reshape({-1, 1}).narrow(0, 0, n);
}

at::Tensor DequantizeInt4(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k) {
  CheckInt4(weight, scale, n, k);
  const int64_t groups = scale.size(1);
  const at::Tensor halves = at::stack({weight.bitwise_and(15), weight.bitwise_right_shift(4)}, 3);
  const at::Tensor u = Untile(halves, n, k).to(at::kFloat);
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

at::Tensor Fp8Scales(const at::Tensor& weight) {
  return weight.narrow(1, weight.size(1) - 1, 1)
      .view(at::kFloat)
      .view({weight.size(0), kTileColumns});
}

at::Tensor DequantizeFp8(const at::Tensor& weight, int64_t n, int64_t k) {
  CheckFp8(weight, n, k);
  const at::Tensor q = Untile(weight.narrow(1, 0, weight.size(1) - 1), n, k).to(at::kFloat);
  return q * Fp8Scales(weight).reshape({-1, 1}).narrow(0, 0, n);
}

at::Tensor QuantizeToFp8(const at::Tensor& weight) {
  TORCH_CHECK(weight.dim() >= 3 && weight.numel() > 0, "a packed weight has tiles, not the shape ",
              weight.sizes());
  const int64_t values = weight.dim() == 4 ? weight.size(3) : 1;
  CheckPacked(weight, weight.size(0) * kTileColumns, weight.size(1) * values);
  const int64_t steps = CeilDiv(weight.size(1) * values, 4);
  at::Tensor fp8 = at::empty({weight.size(0), steps + 1, kTileColumns, 4},
                             weight.options().dtype(at::kFloat8_e4m3fn));
  const int64_t tiles = std::max<int64_t>(1, kQuantizedNumbers / (steps * kTileColumns * 4));
  for (int64_t first = 0; first < weight.size(0); first += tiles) {
    const int64_t count = std::min(tiles, weight.size(0) - first);
    fp8.narrow(0, first, count).copy_(QuantizeTiles(weight.narrow(0, first, count)));
  }
  return fp8;
}

}  // namespace idefics
