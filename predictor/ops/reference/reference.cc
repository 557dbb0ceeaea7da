// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/reference/reference.h"

#include <ATen/ATen.h>

#include <cmath>

#include "predictor/ops/kv_cache.h"
#include "predictor/ops/packed_weight.h"

namespace idefics::reference {

// docs/model.md#rmsnorm: two roundings in 16 bit, one for the normalised value and one for the
// product.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor variance = wide.pow(2).mean(-1, /*keepdim=*/true);
  return weight * (wide * at::rsqrt(variance + eps)).to(weight.scalar_type());
}

std::tuple<at::Tensor, at::Tensor> AddNorm(const at::Tensor& x, const at::Tensor& y,
                                           const std::optional<at::Tensor>& gate,
                                           const at::Tensor& weight, double eps) {
  const at::Tensor sum = x + (gate ? *gate * y : y);
  return {sum, RmsNorm(sum, weight, eps)};
}

at::Tensor EncodeKv(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor largest = wide.abs().amax(-1, /*keepdim=*/true);  // [N, H, 1]
  const at::Tensor finite = at::isfinite(largest);
  const at::Tensor inverse = at::where(largest.gt(0), 127.0 / largest, at::zeros_like(largest));
  const at::Tensor codes = at::where(finite, (wide * inverse).round(), at::zeros_like(wide));
  const at::Tensor scale = at::where(finite, largest / 127.0, at::full_like(largest, NAN));
  return at::cat({codes.to(at::kChar).flatten(1), scale.flatten(1).view(at::kChar)}, 1);
}

at::Tensor DecodeKv(const at::Tensor& codes, int64_t heads) {
  const int64_t scales = heads * kKvScaleBytes;
  const int64_t width = codes.size(1) - scales;
  const at::Tensor scale = codes.narrow(1, width, scales).contiguous().view(at::kFloat);
  const at::Tensor wide = codes.narrow(1, 0, width).to(at::kFloat);
  return wide.view({-1, heads, width / heads}) * scale.unsqueeze(-1);
}

// Rotates q and k by halves (arXiv 2104.09864 as in GPT-NeoX) and writes k and v to their slots.
at::Tensor RopeWrite(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                     const at::Tensor& kv_slots, at::Tensor k_cache, at::Tensor v_cache) {
  const KvHeads shape = HeadsOf(qkv, cos);
  CheckKvCaches(qkv, k_cache, v_cache, shape);
  const int64_t half = shape.dim / 2;
  const at::Tensor split = qkv.view({qkv.size(0), 3, shape.heads, shape.dim});
  const at::Tensor c = cos.unsqueeze(1);  // [T, 1, d/2]
  const at::Tensor s = sin.unsqueeze(1);
  const auto rotate = [&](const at::Tensor& heads_in) {
    const at::Tensor wide = heads_in.to(at::kFloat);
    const at::Tensor first = wide.narrow(-1, 0, half);
    const at::Tensor second = wide.narrow(-1, half, half);
    return at::cat({first * c - second * s, second * c + first * s}, -1).to(qkv.scalar_type());
  };
  const at::Tensor slots = kv_slots.to(at::kLong);
  const auto stored = [&](const at::Tensor& x) { return IsInt8Kv(k_cache) ? EncodeKv(x) : x; };
  k_cache.index_copy_(0, slots, stored(rotate(split.select(1, 1))));
  v_cache.index_copy_(0, slots, stored(split.select(1, 2)));
  return rotate(split.select(1, 0));
}

at::Tensor Attend(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                  const at::Tensor& row_starts, const at::Tensor& kv_starts,
                  const at::Tensor& kv_lengths) {
  const int64_t heads = q.size(1);
  const int64_t dim = q.size(2);
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  at::Tensor out = at::empty({q.size(0), heads, dim}, q.options());
  const at::Tensor rows = row_starts.to(at::kCPU);
  const at::Tensor starts = kv_starts.to(at::kCPU).view({-1, 2});
  const at::Tensor lengths = kv_lengths.to(at::kCPU).view({-1, 2});
  for (int64_t r = 0; r + 1 < rows.numel(); ++r) {
    const int64_t first = rows[r].item<int32_t>();
    const int64_t count = rows[r + 1].item<int32_t>() - first;
    const int64_t shared = lengths[r][0].item<int32_t>();
    const int64_t length = lengths[r][1].item<int32_t>();
    // [length, H, d] → [H, length, d] f32
    const auto read = [&](const at::Tensor& cache) {
      const at::Tensor first_keys = cache.narrow(0, starts[r][0].item<int32_t>(), shared);
      const at::Tensor own_keys = cache.narrow(0, starts[r][1].item<int32_t>(), length - shared);
      const at::Tensor both = at::cat({first_keys, own_keys});
      return (IsInt8Kv(cache) ? DecodeKv(both, heads) : both.to(at::kFloat)).transpose(0, 1);
    };
    const at::Tensor row_q = q.narrow(0, first, count).transpose(0, 1).to(at::kFloat);
    const at::Tensor keys = read(k_cache);
    const at::Tensor values = read(v_cache);
    const at::Tensor future = at::ones({count, length}, q.options().dtype(at::kBool))
                                  .triu(length - count + 1);  // causal, aligned to the last key
    const at::Tensor scores =
        (at::matmul(row_q, keys.transpose(1, 2)) * scale).masked_fill(future, -INFINITY);
    const at::Tensor mixed = at::matmul(scores.softmax(-1), values);  // [H, count, d]
    out.narrow(0, first, count).copy_(mixed.transpose(0, 1));
  }
  return out.view({q.size(0), heads * dim});
}

// docs/model.md#gated-cross-attention: a token attends to the latents of exactly one image, or adds
// nothing.
at::Tensor AttendImage(const at::Tensor& q, const at::Tensor& image_k, const at::Tensor& image_v,
                       const at::Tensor& image_slots) {
  const int64_t tokens = q.size(0);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  const at::Tensor slots = image_slots.to(at::kLong);
  const at::Tensor keys =
      image_k.index_select(0, slots.clamp_min(0)).to(at::kFloat);  // [T, H, L, d]
  const at::Tensor values = image_v.index_select(0, slots.clamp_min(0)).to(at::kFloat);
  const at::Tensor wide = q.to(at::kFloat).unsqueeze(2);  // [T, H, 1, d]
  const at::Tensor scores = at::matmul(wide, keys.transpose(2, 3)) * scale;
  const at::Tensor mixed = at::matmul(scores.softmax(-1), values).squeeze(2);  // [T, H, d]
  const at::Tensor sees = slots.ge(0).view({tokens, 1, 1});
  return at::where(sees, mixed, at::zeros({}, mixed.options()))
      .to(q.scalar_type())
      .reshape({tokens, q.size(1) * q.size(2)});
}

at::Tensor LinearPacked(const at::Tensor& x, const at::Tensor& weight, int64_t n) {
  if (IsFp8(weight)) {
    return at::linear(x, DequantizeFp8(weight, n, x.size(-1)).to(x.scalar_type()));
  }
  return at::linear(x, UnpackWeight(weight, n, x.size(-1)));
}

at::Tensor LinearInt8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n) {
  return at::linear(x, DequantizeInt8(weight, scale, n, x.size(-1)).to(x.scalar_type()));
}

at::Tensor LinearInt4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                      int64_t n) {
  return at::linear(x, DequantizeInt4(weight, scale, n, x.size(-1)).to(x.scalar_type()));
}

at::Tensor Swiglu(const at::Tensor& gate_up) {
  const auto halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

}  // namespace idefics::reference
