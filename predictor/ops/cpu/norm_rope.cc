// SPDX-License-Identifier: Apache-2.0
// CPU versions of rms_norm, add_norm and rope_write: one pass over each row instead of the
// reference's dozen tensors. A row's result does not depend on its neighbours.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "predictor/ops/cpu/norm_rope_math.h"
#include "predictor/ops/cpu/scratch.h"
#include "predictor/ops/cpu/share_work.h"
#include "predictor/ops/kv_cache.h"
#include "predictor/ops/operators.h"
#include "predictor/ops/reference/reference.h"

namespace idefics {
namespace {

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (x.scalar_type() != weight.scalar_type()) return reference::RmsNorm(x, weight, eps);
  const at::Tensor in = x.contiguous();
  const int64_t size = weight.numel();
  TORCH_CHECK(weight.is_contiguous() && weight.dim() == 1 && in.size(-1) == size);
  at::Tensor out = Uninitialized(in.sizes(), in);
  ForElementType(in.scalar_type(), "idefics::rms_norm", [&](auto tag) {
    using T = decltype(tag);
    const T* rows = in.const_data_ptr<T>();
    const T* scale = weight.const_data_ptr<T>();
    T* result = out.data_ptr<T>();
    ShareRows(in.numel() / size, size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        NormRow(rows + row * size, scale, static_cast<float>(eps), result + row * size, size);
      }
    });
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor> AddNorm(const at::Tensor& x, const at::Tensor& y,
                                           const std::optional<at::Tensor>& gate,
                                           const at::Tensor& weight, double eps) {
  if (!CanAddNorm(x, y, gate, weight)) return reference::AddNorm(x, y, gate, weight, eps);
  const int64_t size = weight.numel();
  at::Tensor sum = Uninitialized(x.sizes(), x);
  at::Tensor out = Uninitialized(x.sizes(), x);
  ForElementType(x.scalar_type(), "idefics::add_norm", [&](auto tag) {
    using T = decltype(tag);
    const T* rows = x.const_data_ptr<T>();
    const T* added = y.const_data_ptr<T>();
    const T* gates = gate ? gate->const_data_ptr<T>() : nullptr;
    const T* scale = weight.const_data_ptr<T>();
    T* sums = sum.data_ptr<T>();
    T* result = out.data_ptr<T>();
    const int64_t gate_size = gate ? gate->numel() : 0;
    ShareRows(x.numel() / size, size, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin * size; at < end * size; at += size) {
        AddRow(rows + at, added + at, gates, gate_size, sums + at, size);
        NormRow(sums + at, scale, static_cast<float>(eps), result + at, size);
      }
    });
  });
  return {sum, out};
}

// Raw pointers of one rope_write; shapes in README.md. `Key` is what the caches hold: T, or int8_t
// (kv_cache.h).
template <typename T, typename Key>
struct RopePointers {
  const T* qkv;
  const float* cos;
  const float* sin;
  const int32_t* slots;
  Key* k_cache;
  Key* v_cache;
  T* q;
};

template <typename T>
void RopeWriteToken(const RopePointers<T, T>& p, int64_t token, KvHeads shape) {
  const int64_t width = shape.width();
  const int64_t half = shape.dim / 2;
  const T* in = p.qkv + token * 3 * width;
  const float* cos = p.cos + token * half;
  const float* sin = p.sin + token * half;
  T* q = p.q + token * width;
  T* k = p.k_cache + p.slots[token] * width;
  for (int64_t at = 0; at < width; at += shape.dim) {
    RotateRow(in + at, cos, sin, q + at, half);
    RotateRow(in + width + at, cos, sin, k + at, half);
  }
  std::copy_n(in + 2 * width, width, p.v_cache + p.slots[token] * width);
}

template <typename T>
void RopeWriteToken(const RopePointers<T, int8_t>& p, int64_t token, KvHeads shape) {
  const int64_t width = shape.width();
  const int64_t half = shape.dim / 2;
  const T* in = p.qkv + token * 3 * width;
  const float* cos = p.cos + token * half;
  const float* sin = p.sin + token * half;
  T* q = p.q + token * width;
  int8_t* k = p.k_cache + p.slots[token] * shape.bytes_in_int8();
  int8_t* v = p.v_cache + p.slots[token] * shape.bytes_in_int8();
  auto* k_scale = reinterpret_cast<float*>(k + width);
  auto* v_scale = reinterpret_cast<float*>(v + width);
  for (int64_t at = 0; at < width; at += shape.dim) {
    RotateRow(in + width + at, cos, sin, q + at, half);  // q is not needed yet
    *k_scale++ = EncodeHead(q + at, shape.dim, k + at);
    *v_scale++ = EncodeHead(in + 2 * width + at, shape.dim, v + at);
    RotateRow(in + at, cos, sin, q + at, half);
  }
}

at::Tensor RopeWrite(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                     const at::Tensor& kv_slots, at::Tensor k_cache, at::Tensor v_cache) {
  const KvHeads shape = HeadsOf(qkv, cos);
  const int64_t tokens = qkv.size(0);
  TORCH_CHECK(qkv.is_contiguous() && cos.is_contiguous() && sin.is_contiguous() &&
              kv_slots.is_contiguous());
  CheckKvCaches(qkv, k_cache, v_cache, shape);
  TORCH_CHECK(qkv.numel() == tokens * 3 * shape.width() && sin.sizes() == cos.sizes() &&
              kv_slots.numel() == tokens);
  at::Tensor q = Uninitialized({tokens, shape.heads, shape.dim}, qkv);
  ForElementType(qkv.scalar_type(), "idefics::rope_write", [&](auto tag) {
    using T = decltype(tag);
    ForKeyType<T>(k_cache, [&](auto key_tag) {
      using Key = decltype(key_tag);
      const RopePointers<T, Key> pointers{.qkv = qkv.const_data_ptr<T>(),
                                          .cos = cos.const_data_ptr<float>(),
                                          .sin = sin.const_data_ptr<float>(),
                                          .slots = kv_slots.const_data_ptr<int32_t>(),
                                          .k_cache = k_cache.data_ptr<Key>(),
                                          .v_cache = v_cache.data_ptr<Key>(),
                                          .q = q.data_ptr<T>()};
      ShareRows(tokens, 3 * shape.width(), [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; ++token) RopeWriteToken(pointers, token, shape);
      });
    });
  });
  return q;
}

}  // namespace

TORCH_LIBRARY_IMPL(idefics, CPU, library) {
  library.impl("rms_norm", RmsNorm);
  library.impl("add_norm", AddNorm);
  library.impl("rope_write", RopeWrite);
}

}  // namespace idefics
