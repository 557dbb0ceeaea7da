// SPDX-License-Identifier: Apache-2.0
// attend and attend_image on tensors. Heads wider than the kernels take go to the reference.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "predictor/ops/cuda/attend_image_tensor.cuh"
#include "predictor/ops/cuda/attend_tensor.cuh"
#include "predictor/ops/cuda/attend_tile.cuh"
#include "predictor/ops/cuda/on_device.cuh"
#include "predictor/ops/kv_cache.h"
#include "predictor/ops/operators.h"
#include "predictor/ops/reference/reference.h"

namespace idefics::IDEFICS_TARGET {

// Attends the rows of more than kShortRow tokens. REQUIRES: dim <= kMaxTileDim.
template <typename T, typename Key>
void LaunchAttendTiles(const AttendArguments<T, Key>& a, Stream stream) {
  constexpr bool kTensorCores = sizeof(T) == 2;
  constexpr int kSize = kTensorCores ? kTensorTile : kTile;
  const dim3 grid{NumTiles<kSize>(a.ragged), static_cast<unsigned>(a.heads)};
  ForPanels(a.dim, [&](auto panels) {
    if constexpr (kTensorCores) {
      Launch(AttendTensorKernel<T, Key, panels.value>, grid, kAttendThreads, stream, a);
    } else {
      Launch(AttendTileKernel<T, Key, panels.value>, grid, kAttendThreads, stream, a);
    }
  });
}

// Chooses the kernels by what the host knows. With as many tokens as rows the step decodes;
// otherwise one kernel takes the short rows and one the long rows, and each skips the others.
template <typename T, typename Key>
void LaunchAttend(AttendArguments<T, Key> a, int processors, const at::Tensor& q, Stream stream) {
  const bool tiles = a.ragged.tokens != a.ragged.rows && a.dim <= kMaxTileDim;
  a.only_short_rows = tiles;
  a.splits = ChooseSplits(a.places(), a.heads, processors);
  at::Tensor parts;
  if (a.splits > 1) {
    parts = at::empty({a.places(), a.heads, a.dim + 2, a.splits}, q.options().dtype(at::kFloat));
    a.parts = parts.data_ptr<float>();
  }
  LaunchAttendToken(a, stream);
  if (tiles) LaunchAttendTiles(a, stream);
}

inline at::Tensor Attend(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                         const at::Tensor& row_starts, const at::Tensor& kv_starts,
                         const at::Tensor& kv_lengths) {
  const int64_t tokens = q.size(0);
  const int64_t heads = q.size(1);
  const int64_t dim = q.size(2);
  const int64_t rows = row_starts.numel() - 1;
  if (dim > kMaxAttendDim) {
    return reference::Attend(q, k_cache, v_cache, row_starts, kv_starts, kv_lengths);
  }
  TORCH_CHECK(q.is_contiguous());
  CheckKvCaches(q, k_cache, v_cache, {heads, dim});
  CheckIndices(row_starts, q, rows + 1);
  CheckIndices(kv_starts, q, 2 * rows);
  CheckIndices(kv_lengths, q, 2 * rows);
  const OnDevice device(q);
  at::Tensor out = at::empty({tokens, heads * dim}, q.options());
  if (tokens == 0) return out;
  const Ragged ragged{.row_starts = row_starts.const_data_ptr<int32_t>(),
                      .kv_starts = kv_starts.const_data_ptr<int32_t>(),
                      .kv_lengths = kv_lengths.const_data_ptr<int32_t>(),
                      .tokens = static_cast<int>(tokens),
                      .rows = static_cast<int>(rows)};
  ForElementType(q.scalar_type(), "idefics::attend", [&](auto tag) {
    using T = decltype(tag);
    ForKeyType<T>(k_cache, [&](auto key_tag) {
      using Key = decltype(key_tag);
      AttendArguments<T, Key> arguments{.q = q.const_data_ptr<T>(),
                                        .k_cache = k_cache.const_data_ptr<Key>(),
                                        .v_cache = v_cache.const_data_ptr<Key>(),
                                        .out = out.data_ptr<T>(),
                                        .ragged = ragged,
                                        .heads = static_cast<int>(heads),
                                        .dim = static_cast<int>(dim),
                                        .packed = false,
                                        .only_short_rows = false,
                                        .splits = 1,
                                        .parts = nullptr};
      arguments.packed = CanPack(arguments.q, dim) && CanPack(arguments.k_cache, dim) &&
                         CanPack(arguments.v_cache, dim) && k_cache.stride(0) % kPack == 0;
      LaunchAttend(arguments, device.processors(), q, device.stream());
    });
  });
  device.CheckLaunch();
  return out;
}

inline at::Tensor AttendImage(const at::Tensor& q, const at::Tensor& image_k,
                              const at::Tensor& image_v, const at::Tensor& image_slots) {
  const int64_t tokens = q.size(0);
  const int64_t heads = q.size(1);
  const int64_t dim = q.size(2);
  if (dim > kMaxAttendDim) return reference::AttendImage(q, image_k, image_v, image_slots);
  CheckAlike(q, image_k);
  CheckAlike(image_k, image_v);
  CheckIndices(image_slots, q, tokens);
  const OnDevice device(q);
  at::Tensor out = at::empty({tokens, heads * dim}, q.options());
  ForElementType(q.scalar_type(), "idefics::attend_image", [&](auto tag) {
    using T = decltype(tag);
    AttendImageArguments<T> arguments{.q = q.const_data_ptr<T>(),
                                      .image_k = image_k.const_data_ptr<T>(),
                                      .image_v = image_v.const_data_ptr<T>(),
                                      .slot = image_slots.const_data_ptr<int32_t>(),
                                      .out = out.data_ptr<T>(),
                                      .tokens = static_cast<int>(tokens),
                                      .heads = static_cast<int>(heads),
                                      .latents = static_cast<int>(image_k.size(2)),
                                      .dim = static_cast<int>(dim),
                                      .packed = false};
    arguments.packed = CanPack(arguments.q, dim) && CanPack(arguments.image_k, dim) &&
                       CanPack(arguments.image_v, dim);
    if constexpr (sizeof(T) == 2) {
      if (tokens >= kImageTensorTokens && dim <= kMaxTileDim) {
        LaunchAttendImageTensor(arguments, device.stream());
        return;
      }
    }
    LaunchAttendImage(arguments, device.stream());
  });
  device.CheckLaunch();
  return out;
}

}  // namespace idefics::IDEFICS_TARGET
