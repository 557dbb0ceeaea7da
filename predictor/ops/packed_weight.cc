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

at::Tensor Fp8Rows(const at::Tensor& weight, int64_t n, int64_t k) {
  const int64_t columns = weight.size(0) * kTileColumns;
  const int64_t row_bytes = (weight.size(1) - 1) * weight.size(3);
  return weight.flatten()
      .narrow(0, 0, columns * row_bytes)
      .view({columns, row_bytes})
      .narrow(0, 0, n)
      .narrow(1, 0, k);
}

at::Tensor Fp8Scales(const at::Tensor& weight) {
  const int64_t bytes = weight.size(0) * kTileColumns * static_cast<int64_t>(sizeof(float));
  return weight.flatten().narrow(0, weight.numel() - bytes, bytes).view(at::kFloat);
}

at::Tensor DequantizeFp8(const at::Tensor& weight, int64_t n, int64_t k) {
  CheckFp8(weight, n, k);
  return Fp8Rows(weight, n, k).to(at::kFloat) * Fp8Scales(weight).narrow(0, 0, n).unsqueeze(1);
}

at::Tensor QuantizeToFp8(const at::Tensor& weight) {
  TORCH_CHECK(weight.dim() >= 3 && weight.numel() > 0, "a packed weight has tiles, not the shape ",
              weight.sizes());
  const int64_t columns = weight.size(0) * kTileColumns;
  const int64_t k = weight.size(1) * (weight.dim() == 4 ? weight.size(3) : 1);
  CheckPacked(weight, columns, k);
  const at::Tensor fp8 = at::zeros(LayoutOf(LinearForm::kFp8, columns, k).weight.sizes,
                                   weight.options().dtype(at::kByte))
                             .view(at::kFloat8_e4m3fn);
  const at::Tensor rows = Fp8Rows(fp8, columns, k);
  const at::Tensor scales = Fp8Scales(fp8);
  const int64_t tiles = std::max<int64_t>(1, kQuantizedNumbers / (kTileColumns * k));
  for (int64_t first = 0; first < weight.size(0); first += tiles) {
    const int64_t count = std::min(tiles, weight.size(0) - first);
    const int64_t n = count * kTileColumns;
    const at::Tensor w = Untile(weight.narrow(0, first, count), n, k).to(at::kFloat);
    const at::Tensor largest = at::maximum(w.amax(1, true), -w.amin(1, true)) / kLargestFp8;
    const at::Tensor scale = largest.masked_fill(largest == 0, 1);
    rows.narrow(0, first * kTileColumns, n)
        .copy_((w / scale).clamp(-kLargestFp8, kLargestFp8).to(at::kFloat8_e4m3fn));
    scales.narrow(0, first * kTileColumns, n).copy_(scale.flatten());
  }
  return fp8;
}

}  // namespace idefics
