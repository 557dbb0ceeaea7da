// SPDX-License-Identifier: Apache-2.0
// The packed linears on tensors (layouts: ../packed_weight.h). Rows in 16 bit go to kernels that
// read the packed words: up to kMaxSkinnyRows to one that waits for memory, of int8 and int4 up to
// kMaxTiledRows to one of tiles. More rows go to cuBLAS, which gets a part of W at a time,
// unpacked; fp8 stays fp8 where the chip multiplies it.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "predictor/ops/cuda/dequantize.cuh"
#include "predictor/ops/cuda/fp8_product.cuh"
#include "predictor/ops/cuda/linear_skinny.cuh"
#include "predictor/ops/cuda/linear_tiled.cuh"
#include "predictor/ops/cuda/on_device.cuh"
#include "predictor/ops/cuda/packed_16bit.cuh"
#include "predictor/ops/cuda/packed_fp8.cuh"
#include "predictor/ops/cuda/packed_int4.cuh"
#include "predictor/ops/cuda/packed_int8.cuh"
#include "predictor/ops/cuda/stored_weight.cuh"
#include "predictor/ops/operators.h"
#include "predictor/ops/packed_weight.h"
#include "predictor/ops/reference/reference.h"

namespace idefics::IDEFICS_TARGET {

// Of W that is unpacked at a time: it stays in the second cache, of 40 MB and more, until it is
// read, and 512 rows of it still make a tile of 128 · 128 for each processor.
constexpr int64_t kDequantizedBytes = int64_t{32} << 20;

// How many columns of this many bytes are unpacked at a time, in whole tiles.
inline int64_t ColumnsAtOnce(int64_t column_bytes) {
  const int64_t fit = kDequantizedBytes / column_bytes;
  return std::max(kTileColumns, fit / kTileColumns * kTileColumns);
}

// x [m, k] → [m, n]; W is unpacked in parts.
template <typename Packed, typename T>
at::Tensor LinearByCublas(const at::Tensor& x, const StoredWeight& stored, int64_t n,
                          const OnDevice& device) {
  const int64_t k = x.size(1);
  const int64_t part = std::min(n, ColumnsAtOnce(k * static_cast<int64_t>(sizeof(T))));
  const at::Tensor w = at::empty({part, k}, x.options());
  const at::Tensor out = at::empty({x.size(0), n}, x.options());
  for (int64_t first = 0; first < n; first += part) {
    const int64_t columns = std::min(part, n - first);
    LaunchDequantize<Packed, T>({.w = stored.As<Packed>(k),
                                 .out = w.data_ptr<T>(),
                                 .first = static_cast<int>(first),
                                 .columns = static_cast<int>(columns),
                                 .packed = false},
                                device.stream());
    at::Tensor y = out.narrow(1, first, columns);
    at::mm_out(y, x, w.narrow(0, 0, columns).t());
  }
  return out;
}

// Memory for the parts of a product whose k is divided: [splits, m, n] f32, or none.
template <typename T>
at::Tensor PartsOf(SplitProduct<T>& product, const at::Tensor& out) {
  if (product.splits == 1) return {};
  at::Tensor parts =
      at::empty({product.splits, out.size(0), out.size(1)}, out.options().dtype(at::kFloat));
  product.parts = parts.data_ptr<float>();
  return parts;
}

// x [m, k] → [m, n]; x is contiguous.
template <typename Packed, typename T>
at::Tensor LinearRows(const at::Tensor& x, const StoredWeight& stored, int64_t n) {
  const OnDevice device(x);
  if constexpr (sizeof(T) == 2) {
    const bool tiled = Packed::kTiled && x.size(0) > kMaxSkinnyRows && x.size(0) <= kMaxTiledRows &&
                       CanPack(x.const_data_ptr<T>(), x.size(1));
    if (tiled || x.size(0) <= kMaxSkinnyRows) {
      at::Tensor out = at::empty({x.size(0), n}, x.options());
      SplitProduct<T> product{.of = {.x = x.const_data_ptr<T>(),
                                     .w = stored.As<Packed>(x.size(1)),
                                     .out = out.data_ptr<T>(),
                                     .rows = static_cast<int>(x.size(0)),
                                     .n = static_cast<int>(n),
                                     .packed = false},
                              .splits = 1,
                              .parts = nullptr};
      const int processors = device.processors();
      product.splits = tiled ? ChooseKSplits(n, x.size(1), processors)
                             : SkinnySplits<Packed>(product.of.w, product.of.n, processors);
      const at::Tensor parts = PartsOf(product, out);
      if constexpr (Packed::kTiled) {
        if (tiled) LaunchTiled<Packed>(product, device.stream());
      }
      if (!tiled) LaunchSkinny<Packed>(product, device.stream());
      device.CheckLaunch();
      return out;
    }
  }
  at::Tensor out = LinearByCublas<Packed, T>(x, stored, n, device);
  device.CheckLaunch();
  return out;
}

// Calls linear(x as [m, k], T{}) and gives the result x's shape.
template <typename Linear>
at::Tensor WithRows(const at::Tensor& x, int64_t n, const char* op, const Linear& linear) {
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) > 0 && n > 0, op, " takes rows, not ", x.sizes());
  auto shape = x.sizes().vec();
  shape.back() = n;
  if (x.numel() == 0) return at::empty(shape, x.options());
  at::Tensor out;
  ForElementType(x.scalar_type(), op, [&](auto tag) {
    out = linear(x.contiguous().view({-1, x.size(-1)}), tag);
  });
  return out.view(shape);
}

inline at::Tensor LinearFp8(const at::Tensor& x, const at::Tensor& weight, int64_t n) {
  return WithRows(x, n, "idefics::linear_packed", [&](const at::Tensor& rows, auto tag) {
    using T = decltype(tag);
    const int64_t k = rows.size(1);
    CheckFp8(weight, n, k);
    CheckReadable(weight, rows);
    const OnDevice device(rows);
    if (rows.size(0) <= kMaxSkinnyRows || !TakesScaledProduct(rows, n, device)) {
      return LinearRows<PackedFp8<T>, T>(rows, {weight, Fp8Scales(weight)}, n);
    }
    at::Tensor out = Fp8ScaledLinear(rows, weight, n, device);
    device.CheckLaunch();
    return out;
  });
}

// A weight of two dimensions is W [n, k] itself, for cuBLAS; columns beyond k are ignored.
inline at::Tensor LinearByMatrix(const at::Tensor& x, const at::Tensor& weight, int64_t n) {
  TORCH_CHECK(weight.size(0) == n && weight.size(1) >= x.size(-1), "a linear of ", x.size(-1),
              " to ", n, " numbers cannot take a weight of ", weight.sizes());
  return at::linear(x, weight.narrow(1, 0, x.size(-1)));
}

inline at::Tensor LinearPacked(const at::Tensor& x, const at::Tensor& weight, int64_t n) {
  if (weight.dim() == 2) return LinearByMatrix(x, weight, n);
  if (IsFp8(weight)) return LinearFp8(x, weight, n);
  if (x.scalar_type() == at::kFloat) return reference::LinearPacked(x, weight, n);
  return WithRows(x, n, "idefics::linear_packed", [&](const at::Tensor& rows, auto tag) {
    using T = decltype(tag);
    TORCH_CHECK(weight.scalar_type() == rows.scalar_type(), "a linear of ", rows.scalar_type(),
                " rows takes a weight of that type, not ", weight.scalar_type());
    CheckPacked(weight, n, rows.size(1));
    CheckReadable(weight, rows);
    if constexpr (sizeof(T) == 2) {
      return LinearRows<Packed16Bit<T>, T>(rows, {weight, {}}, n);
    } else {
      return at::Tensor();
    }
  });
}

inline at::Tensor LinearInt8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                             int64_t n) {
  if (weight.dim() == 2) return LinearByMatrix(x, weight, n);  // DequantizeWeights made it
  return WithRows(x, n, "idefics::linear_int8", [&](const at::Tensor& rows, auto tag) {
    using T = decltype(tag);
    CheckInt8(weight, scale, n, rows.size(1));
    CheckReadable(weight, rows);
    CheckReadable(scale, rows);
    return LinearRows<PackedInt8<T>, T>(rows, {weight, scale}, n);
  });
}

inline at::Tensor LinearInt4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                             int64_t n) {
  return WithRows(x, n, "idefics::linear_int4", [&](const at::Tensor& rows, auto tag) {
    using T = decltype(tag);
    CheckInt4(weight, scale, n, rows.size(1));
    CheckReadable(weight, rows);
    CheckReadable(scale, rows);
    return LinearRows<PackedInt4<T>, T>(rows, {weight, scale}, n);
  });
}

}  // namespace idefics::IDEFICS_TARGET
