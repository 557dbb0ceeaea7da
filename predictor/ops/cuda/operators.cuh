// SPDX-License-Identifier: Apache-2.0
// The idefics:: operators on tensors, by the kernels of this folder. Shapes in ../README.md. They
// allocate nothing but their outputs (and the parts of a split attention), never wait for the
// device, and read no index on the host: a CUDA graph can capture them. What a kernel cannot take
// (heads wider than 256) goes to the reference.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "predictor/ops/cuda/attend_image.cuh"
#include "predictor/ops/cuda/attend_tile.cuh"
#include "predictor/ops/cuda/rms_norm.cuh"
#include "predictor/ops/cuda/rope_write.cuh"
#include "predictor/ops/cuda/swiglu.cuh"
#include "predictor/ops/element_type.h"
#include "predictor/ops/reference.h"

#ifdef __CUDACC__
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#endif

namespace idefics::IDEFICS_TARGET {

// Makes the tensor's device current; gives its stream, and reports a failed launch when done.
#ifdef __CUDACC__
class OnDevice {
 public:
  explicit OnDevice(const at::Tensor& tensor) : guard_(tensor.device()) {}

  Stream stream() const { return c10::cuda::getCurrentCUDAStream(); }
  int processors() const { return at::cuda::getCurrentDeviceProperties()->multiProcessorCount; }
  void CheckLaunch() const { C10_CUDA_KERNEL_LAUNCH_CHECK(); }

 private:
  c10::cuda::CUDAGuard guard_;
};
#else
// The host has no device; tests choose how many processors the split attention believes in.
inline int host_processors = 1;

class OnDevice {
 public:
  explicit OnDevice(const at::Tensor& /*tensor*/) {}

  Stream stream() const { return {}; }
  int processors() const { return host_processors; }
  void CheckLaunch() const {}
};
#endif

inline void CheckIndices(const at::Tensor& indices, const at::Tensor& like, int64_t count) {
  TORCH_CHECK(indices.scalar_type() == at::kInt && indices.is_contiguous() &&
                  indices.device() == like.device() && indices.numel() == count,
              "indices must be ", count, " contiguous i32 on the tensors' device, not ",
              indices.numel(), " ", indices.scalar_type(), " on ", indices.device());
}

// All of one dtype and device, and without gaps.
inline void CheckAlike(const at::Tensor& first, const at::Tensor& other) {
  TORCH_CHECK(first.scalar_type() == other.scalar_type() && first.device() == other.device() &&
                  first.is_contiguous() && other.is_contiguous(),
              "tensors must be contiguous, of one dtype and device, not ", first.scalar_type(),
              " and ", other.scalar_type());
}

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

inline at::Tensor RopeWrite(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                            const at::Tensor& kv_slots, at::Tensor k_cache, at::Tensor v_cache) {
  const int64_t tokens = qkv.size(0);
  const int64_t heads = k_cache.size(1);
  const int64_t dim = k_cache.size(2);
  CheckAlike(qkv, k_cache);
  CheckAlike(k_cache, v_cache);
  CheckAlike(cos, sin);
  TORCH_CHECK(cos.scalar_type() == at::kFloat && cos.numel() == tokens * dim / 2 &&
              sin.numel() == cos.numel() && qkv.numel() == tokens * 3 * heads * dim &&
              dim % 2 == 0);
  CheckIndices(kv_slots, qkv, tokens);
  const OnDevice device(qkv);
  at::Tensor q = at::empty({tokens, heads, dim}, qkv.options());
  ForElementType(qkv.scalar_type(), "idefics::rope_write", [&](auto tag) {
    using T = decltype(tag);
    LaunchRopeWrite<T>({.qkv = qkv.const_data_ptr<T>(),
                        .cos = cos.const_data_ptr<float>(),
                        .sin = sin.const_data_ptr<float>(),
                        .slots = kv_slots.const_data_ptr<int32_t>(),
                        .k_cache = k_cache.data_ptr<T>(),
                        .v_cache = v_cache.data_ptr<T>(),
                        .q = q.data_ptr<T>(),
                        .tokens = tokens,
                        .heads = static_cast<int>(heads),
                        .half = static_cast<int>(dim / 2)},
                       device.stream());
  });
  device.CheckLaunch();
  return q;
}

// Picks the kernels by what the host knows: with as many tokens as rows the step decodes, otherwise
// short and long rows go to a kernel each, which skips the other kind.
template <typename T>
void LaunchAttend(AttendArguments<T> a, int processors, const at::Tensor& q, Stream stream) {
  const bool tiles = a.ragged.tokens != a.ragged.rows && a.dim <= kMaxTileDim;
  a.only_short_rows = tiles;
  a.splits = tiles ? 1 : ChooseSplits(a.ragged.tokens, a.heads, processors);
  at::Tensor parts;
  if (a.splits > 1) {
    parts =
        at::empty({a.ragged.tokens, a.heads, a.dim + 2, a.splits}, q.options().dtype(at::kFloat));
    a.parts = parts.data_ptr<float>();
  }
  LaunchAttendToken(a, stream);
  if (tiles) LaunchAttendTile(a, stream);
}

inline at::Tensor Attend(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                         const at::Tensor& row_starts, const at::Tensor& kv_starts,
                         const at::Tensor& kv_lengths) {
  const int64_t tokens = q.size(0);
  const int64_t heads = q.size(1);
  const int64_t dim = q.size(2);
  const int64_t rows = kv_starts.size(0);
  if (dim > kMaxAttendDim) {
    return reference::Attend(q, k_cache, v_cache, row_starts, kv_starts, kv_lengths);
  }
  CheckAlike(q, k_cache);
  CheckAlike(k_cache, v_cache);
  CheckIndices(row_starts, q, rows + 1);
  CheckIndices(kv_starts, q, rows);
  CheckIndices(kv_lengths, q, rows);
  const OnDevice device(q);
  at::Tensor out = at::empty({tokens, heads * dim}, q.options());
  if (tokens == 0) return out;
  ForElementType(q.scalar_type(), "idefics::attend", [&](auto tag) {
    using T = decltype(tag);
    AttendArguments<T> arguments{.q = q.const_data_ptr<T>(),
                                 .k_cache = k_cache.const_data_ptr<T>(),
                                 .v_cache = v_cache.const_data_ptr<T>(),
                                 .out = out.data_ptr<T>(),
                                 .ragged = {.row_starts = row_starts.const_data_ptr<int32_t>(),
                                            .kv_starts = kv_starts.const_data_ptr<int32_t>(),
                                            .kv_lengths = kv_lengths.const_data_ptr<int32_t>(),
                                            .tokens = static_cast<int>(tokens),
                                            .rows = static_cast<int>(rows)},
                                 .heads = static_cast<int>(heads),
                                 .dim = static_cast<int>(dim),
                                 .packed = false,
                                 .only_short_rows = false,
                                 .splits = 1,
                                 .parts = nullptr};
    arguments.packed = CanPack(arguments.q, dim) && CanPack(arguments.k_cache, dim) &&
                       CanPack(arguments.v_cache, dim);
    LaunchAttend(arguments, device.processors(), q, device.stream());
  });
  device.CheckLaunch();
  return out;
}

inline at::Tensor AttendImage(const at::Tensor& q, const at::Tensor& image_k,
                              const at::Tensor& image_v, const at::Tensor& image_entry) {
  const int64_t tokens = q.size(0);
  const int64_t heads = q.size(1);
  const int64_t dim = q.size(2);
  if (dim > kMaxAttendDim) return reference::AttendImage(q, image_k, image_v, image_entry);
  CheckAlike(q, image_k);
  CheckAlike(image_k, image_v);
  CheckIndices(image_entry, q, tokens);
  const OnDevice device(q);
  at::Tensor out = at::empty({tokens, heads * dim}, q.options());
  ForElementType(q.scalar_type(), "idefics::attend_image", [&](auto tag) {
    using T = decltype(tag);
    AttendImageArguments<T> arguments{.q = q.const_data_ptr<T>(),
                                      .image_k = image_k.const_data_ptr<T>(),
                                      .image_v = image_v.const_data_ptr<T>(),
                                      .entry = image_entry.const_data_ptr<int32_t>(),
                                      .out = out.data_ptr<T>(),
                                      .tokens = static_cast<int>(tokens),
                                      .heads = static_cast<int>(heads),
                                      .latents = static_cast<int>(image_k.size(2)),
                                      .dim = static_cast<int>(dim),
                                      .packed = false};
    arguments.packed = CanPack(arguments.q, dim) && CanPack(arguments.image_k, dim) &&
                       CanPack(arguments.image_v, dim);
    LaunchAttendImage(arguments, device.stream());
  });
  device.CheckLaunch();
  return out;
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
