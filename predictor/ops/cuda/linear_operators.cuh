// SPDX-License-Identifier: Apache-2.0
// The packed linears on tensors (layouts: ../packed_weight.h). Up to kMaxFewRows rows in 16 bit go
// to a kernel that reads the words as they lie; more rows to cuBLAS, a part of W at a time, fp8 as
// it is where the chip multiplies that.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "predictor/ops/cuda/dequantize.cuh"
#include "predictor/ops/cuda/fp8_product.cuh"
#include "predictor/ops/cuda/fp8_words.cuh"
#include "predictor/ops/cuda/int4_words.cuh"
#include "predictor/ops/cuda/int8_words.cuh"
#include "predictor/ops/cuda/linear_few_rows.cuh"
#include "predictor/ops/cuda/on_device.cuh"
#include "predictor/ops/cuda/pair_words.cuh"
#include "predictor/ops/element_type.h"
#include "predictor/ops/packed_weight.h"
#include "predictor/ops/reference.h"

namespace idefics::IDEFICS_TARGET {

constexpr int64_t kDequantizedBytes = int64_t{64} << 20;  // of W at a time

// The stored tensors of a linear; scale is undefined where the form has none.
struct StoredWeight {
  at::Tensor weight;
  at::Tensor scale;

  template <typename Words>
  WeightWords As(int64_t k) const {
    return {.at = static_cast<const uint32_t*>(weight.const_data_ptr()),
            .scale = scale.defined() ? scale.const_data_ptr() : nullptr,
            .k = static_cast<int>(k),
            .steps = static_cast<int>(CeilDiv(k, Words::kValues)),
            .rows = static_cast<int>(weight.size(1))};
  }
};

inline void CheckReadable(const at::Tensor& stored, const at::Tensor& x) {
  TORCH_CHECK(stored.device() == x.device() &&
                  reinterpret_cast<uintptr_t>(stored.const_data_ptr()) % sizeof(Slot) == 0,
              "a linear of rows on ", x.device(), " takes a weight there, aligned to ",
              sizeof(Slot), " bytes, not one on ", stored.device());
}

// Whole tiles of columns of so many bytes.
inline int64_t ColumnsAtOnce(int64_t column_bytes) {
  const int64_t fit = kDequantizedBytes / column_bytes;
  return std::max(kTileColumns, fit / kTileColumns * kTileColumns);
}

// x [m, k] → [m, n], with whole W only in parts.
template <typename Words, typename T>
at::Tensor LinearManyRows(const at::Tensor& x, const StoredWeight& stored, int64_t n,
                          const OnDevice& device) {
  const int64_t k = x.size(1);
  const int64_t part = std::min(n, ColumnsAtOnce(k * static_cast<int64_t>(sizeof(T))));
  const at::Tensor w = at::empty({part, k}, x.options());
  const at::Tensor out = at::empty({x.size(0), n}, x.options());
  for (int64_t first = 0; first < n; first += part) {
    const int64_t columns = std::min(part, n - first);
    LaunchDequantize<Words, T>({.w = stored.As<Words>(k),
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

// x [m, k] → [m, n]; x is contiguous.
template <typename Words, typename T>
at::Tensor LinearRows(const at::Tensor& x, const StoredWeight& stored, int64_t n) {
  const OnDevice device(x);
  if constexpr (sizeof(T) == 2) {
    if (x.size(0) <= kMaxFewRows) {
      at::Tensor out = at::empty({x.size(0), n}, x.options());
      LaunchFewRows<Words, T>({.x = x.const_data_ptr<T>(),
                               .w = stored.As<Words>(x.size(1)),
                               .out = out.data_ptr<T>(),
                               .rows = static_cast<int>(x.size(0)),
                               .n = static_cast<int>(n),
                               .packed = false},
                              device.stream());
      device.CheckLaunch();
      return out;
    }
  }
  at::Tensor out = LinearManyRows<Words, T>(x, stored, n, device);
  device.CheckLaunch();
  return out;
}

// Calls linear(rows of x, T{}) and gives the result x's shape.
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
    if (rows.size(0) <= kMaxFewRows || !TakesScaledProduct(rows, n, device)) {
      return LinearRows<Fp8Words<T>, T>(rows, {weight, {}}, n);
    }
    at::Tensor out = Fp8ManyRows(rows, weight, StoredWeight{weight, {}}.As<Fp8Words<T>>(k), n,
                                 ColumnsAtOnce(k), device);
    device.CheckLaunch();
    return out;
  });
}

// A weight of two dimensions is W [n, k] itself, for cuBLAS; more columns than k are passed over.
inline at::Tensor LinearPacked(const at::Tensor& x, const at::Tensor& weight, int64_t n) {
  if (weight.dim() == 2) {
    TORCH_CHECK(weight.size(0) == n && weight.size(1) >= x.size(-1), "a linear of ", x.size(-1),
                " to ", n, " numbers cannot take a weight of ", weight.sizes());
    return at::linear(x, weight.narrow(1, 0, x.size(-1)));
  }
  if (IsFp8(weight)) return LinearFp8(x, weight, n);
  if (x.scalar_type() == at::kFloat) return reference::LinearPacked(x, weight, n);
  return WithRows(x, n, "idefics::linear_packed", [&](const at::Tensor& rows, auto tag) {
    using T = decltype(tag);
    TORCH_CHECK(weight.scalar_type() == rows.scalar_type(), "a linear of ", rows.scalar_type(),
                " rows takes a weight of that type, not ", weight.scalar_type());
    CheckPacked(weight, n, rows.size(1));
    CheckReadable(weight, rows);
    if constexpr (sizeof(T) == 2) {
      return LinearRows<PairWords<T>, T>(rows, {weight, {}}, n);
    } else {
      return at::Tensor();
    }
  });
}

inline at::Tensor LinearInt8(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                             int64_t n) {
  return WithRows(x, n, "idefics::linear_int8", [&](const at::Tensor& rows, auto tag) {
    using T = decltype(tag);
    CheckInt8(weight, scale, n, rows.size(1));
    CheckReadable(weight, rows);
    CheckReadable(scale, rows);
    return LinearRows<Int8Words<T>, T>(rows, {weight, scale}, n);
  });
}

inline at::Tensor LinearInt4(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                             int64_t n) {
  return WithRows(x, n, "idefics::linear_int4", [&](const at::Tensor& rows, auto tag) {
    using T = decltype(tag);
    CheckInt4(weight, scale, n, rows.size(1));
    CheckReadable(weight, rows);
    CheckReadable(scale, rows);
    return LinearRows<Int4Words<T>, T>(rows, {weight, scale}, n);
  });
}

}  // namespace idefics::IDEFICS_TARGET
