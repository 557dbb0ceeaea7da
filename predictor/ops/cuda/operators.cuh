// SPDX-License-Identifier: Apache-2.0
// The idefics:: operators on tensors, by the kernels of this folder. Shapes in ../README.md. They
// allocate nothing but their outputs (and the parts of a split attention or of W), never wait for
// the device, and read no index on the host, so a CUDA graph can capture them. The exceptions are
// weights of another dtype and heads wider than 256, which go to the reference.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "predictor/ops/cuda/attend_operators.cuh"
#include "predictor/ops/cuda/linear_operators.cuh"
#include "predictor/ops/cuda/on_device.cuh"
#include "predictor/ops/cuda/rms_norm.cuh"
#include "predictor/ops/cuda/rope_write.cuh"
#include "predictor/ops/cuda/sampling_operators.cuh"
#include "predictor/ops/cuda/swiglu.cuh"
#include "predictor/ops/operators.h"
#include "predictor/ops/reference/reference.h"

namespace idefics::IDEFICS_TARGET {

inline at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (x.scalar_type() != weight.scalar_type()) return reference::RmsNorm(x, weight, eps);
  const at::Tensor in = x.contiguous();
  CheckAlike(in, weight);
  TORCH_CHECK(weight.dim() == 1 && in.size(-1) == weight.size(0));
  const OnDevice device(in);
  at::Tensor out = at::empty(in.sizes(), in.options());
  ForElementType(in.scalar_type(), "idefics::rms_norm", [&](auto tag) {
    using T = decltype(tag);
    LaunchRmsNorm<T>({.x = in.const_data_ptr<T>(),
                      .weight = weight.const_data_ptr<T>(),
                      .out = out.data_ptr<T>(),
                      .rows = in.numel() / weight.size(0),
                      .size = static_cast<int>(weight.size(0)),
                      .eps = static_cast<float>(eps),
                      .packed = false},
                     device.stream());
  });
  device.CheckLaunch();
  return out;
}

inline std::tuple<at::Tensor, at::Tensor> AddNorm(const at::Tensor& x, const at::Tensor& y,
                                                  const std::optional<at::Tensor>& gate,
                                                  const at::Tensor& weight, double eps) {
  if (!CanAddNorm(x, y, gate, weight)) return reference::AddNorm(x, y, gate, weight, eps);
  const OnDevice device(x);
  at::Tensor sum = at::empty(x.sizes(), x.options());
  at::Tensor out = at::empty(x.sizes(), x.options());
  ForElementType(x.scalar_type(), "idefics::add_norm", [&](auto tag) {
    using T = decltype(tag);
    LaunchRmsNorm<T>({.x = x.const_data_ptr<T>(),
                      .weight = weight.const_data_ptr<T>(),
                      .out = out.data_ptr<T>(),
                      .rows = x.numel() / weight.numel(),
                      .size = static_cast<int>(weight.numel()),
                      .eps = static_cast<float>(eps),
                      .packed = false,
                      .y = y.const_data_ptr<T>(),
                      .gate = gate ? gate->const_data_ptr<T>() : nullptr,
                      .gate_size = gate ? static_cast<int>(gate->numel()) : 0,
                      .sum = sum.data_ptr<T>()},
                     device.stream());
  });
  device.CheckLaunch();
  return {sum, out};
}

inline at::Tensor RopeWrite(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                            const at::Tensor& kv_slots, at::Tensor k_cache, at::Tensor v_cache) {
  const int64_t tokens = qkv.size(0);
  const KvHeads shape = HeadsOf(qkv, cos);
  TORCH_CHECK(qkv.is_contiguous());
  CheckKvCaches(qkv, k_cache, v_cache, shape);
  CheckAlike(cos, sin);
  TORCH_CHECK(cos.scalar_type() == at::kFloat && cos.device() == qkv.device() &&
              sin.sizes() == cos.sizes() && qkv.numel() == tokens * 3 * shape.width());
  CheckIndices(kv_slots, qkv, tokens);
  const OnDevice device(qkv);
  at::Tensor q = at::empty({tokens, shape.heads, shape.dim}, qkv.options());
  ForElementType(qkv.scalar_type(), "idefics::rope_write", [&](auto tag) {
    using T = decltype(tag);
    ForKeyType<T>(k_cache, [&](auto key_tag) {
      using Key = decltype(key_tag);
      const RopeWriteArguments<T, Key> arguments{.qkv = qkv.const_data_ptr<T>(),
                                                 .cos = cos.const_data_ptr<float>(),
                                                 .sin = sin.const_data_ptr<float>(),
                                                 .slots = kv_slots.const_data_ptr<int32_t>(),
                                                 .k_cache = k_cache.data_ptr<Key>(),
                                                 .v_cache = v_cache.data_ptr<Key>(),
                                                 .q = q.data_ptr<T>(),
                                                 .tokens = tokens,
                                                 .heads = static_cast<int>(shape.heads),
                                                 .half = static_cast<int>(shape.dim / 2)};
      LaunchRopeWrite(arguments, device.stream());
    });
  });
  device.CheckLaunch();
  return q;
}

inline at::Tensor Swiglu(const at::Tensor& gate_up) {
  TORCH_CHECK(gate_up.is_contiguous() && gate_up.dim() == 2 && gate_up.size(1) % 2 == 0);
  const int64_t tokens = gate_up.size(0);
  const int64_t size = gate_up.size(1) / 2;
  const OnDevice device(gate_up);
  at::Tensor out = at::empty({tokens, size}, gate_up.options());
  ForElementType(gate_up.scalar_type(), "idefics::swiglu", [&](auto tag) {
    using T = decltype(tag);
    LaunchSwiglu<T>({.gate_up = gate_up.const_data_ptr<T>(),
                     .out = out.data_ptr<T>(),
                     .tokens = tokens,
                     .size = static_cast<int>(size),
                     .packed = false},
                    device.stream());
  });
  device.CheckLaunch();
  return out;
}

}  // namespace idefics::IDEFICS_TARGET
