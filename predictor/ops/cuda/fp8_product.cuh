// SPDX-License-Identifier: Apache-2.0
// y = x Wᵀ for many rows with both sides in e4m3, on chips that multiply it: x is quantized row by
// row, W [n, k] is copied out of its tiles.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "predictor/ops/cuda/dequantize.cuh"
#include "predictor/ops/cuda/on_device.cuh"
#include "predictor/ops/cuda/packed_fp8.cuh"
#include "predictor/ops/packed_weight.h"

#ifdef __CUDACC__
#include <ATen/ops/_scaled_mm.h>
#else
#include <ATen/ops/mm.h>
#endif

namespace idefics::IDEFICS_TARGET {

using E4m3 = c10::Float8_e4m3fn;

constexpr float kLargestE4m3 = 448.0f;
constexpr int kQuantizeThreads = 256;
constexpr int kUntileThreads = 256;
constexpr int kUntileVectors = 2;  // for a thread: whole 32-byte sectors of a row of W

template <typename T>
struct QuantizeRowsArguments {
  const T* x;    // [rows, k]
  E4m3* q;       // [rows, k]
  float* scale;  // [rows]: x = scale q
  int k;
  bool packed;
};

// The largest value of all threads of a block.
__device__ __forceinline__ float BlockMax(float value) {
  __shared__ float warp_values[kQuantizeThreads / 32];
  value = GroupMax<32>(value);
  if (threadIdx.x % 32 == 0) warp_values[threadIdx.x / 32] = value;
  __syncthreads();
  for (int warp = 0; warp < kQuantizeThreads / 32; ++warp) value = fmaxf(value, warp_values[warp]);
  return value;
}

// One block for each row. NaN stays NaN.
template <typename T>
__global__ void __launch_bounds__(kQuantizeThreads) QuantizeRowsKernel(QuantizeRowsArguments<T> a) {
  const T* const x = a.x + static_cast<int64_t>(blockIdx.x) * a.k;
  E4m3* const q = a.q + static_cast<int64_t>(blockIdx.x) * a.k;
  const int first = static_cast<int>(threadIdx.x) * kPack;
  float largest = 0;
  for (int i = first; i < a.k; i += kQuantizeThreads * kPack) {
    const Pack<T> pack = LoadPack(x, i, a.k, a.packed);
#pragma unroll
    for (int j = 0; j < kPack; ++j) largest = fmaxf(largest, fabsf(static_cast<float>(pack.at[j])));
  }
  float scale = BlockMax(largest) / kLargestE4m3;
  if (scale == 0) scale = 1;
  if (threadIdx.x == 0) a.scale[blockIdx.x] = scale;
  for (int i = first; i < a.k; i += kQuantizeThreads * kPack) {
    const Pack<T> pack = LoadPack(x, i, a.k, a.packed);
    Pack<E4m3> codes;
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      const float value = static_cast<float>(pack.at[j]) / scale;
      const float below = value > kLargestE4m3 ? kLargestE4m3 : value;
      codes.at[j] = static_cast<E4m3>(below < -kLargestE4m3 ? -kLargestE4m3 : below);
    }
    StorePack(codes, q, i, a.k, a.packed);
  }
}

// A thread copies kUntileVectors · 16 neighbouring k of one column. REQUIRES: k is a multiple of
// 16, T has one byte.
template <typename T>
__global__ void __launch_bounds__(kUntileThreads) UntileKernel(DequantizeArguments<T> a) {
  constexpr int kColumns = static_cast<int>(kTileColumns);
  const int at = static_cast<int>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x) % kColumns;
  const int run = static_cast<int>(blockIdx.y) * (kUntileThreads / kColumns) +
                  static_cast<int>(threadIdx.x) / kColumns;
  if (at >= a.columns) return;
  const uint32_t* const words = ColumnWords(a.w, a.first + at);
  auto* const out = reinterpret_cast<Vec16B*>(a.out + static_cast<int64_t>(at) * a.w.k);
#pragma unroll
  for (int vector = run * kUntileVectors; vector < (run + 1) * kUntileVectors; ++vector) {
    if (vector * 4 >= a.w.steps) return;
    Vec16B four;
#pragma unroll
    for (int i = 0; i < 4; ++i) four.at[i] = words[static_cast<int64_t>(vector * 4 + i) * kColumns];
    out[vector] = four;
  }
}

// x [m, k] → e4m3 [m, k]; scale: f32 [m].
template <typename T>
at::Tensor QuantizeRows(const at::Tensor& x, const at::Tensor& scale, Stream stream) {
  const at::Tensor q = at::empty(x.sizes(), x.options().dtype(at::kFloat8_e4m3fn));
  QuantizeRowsArguments<T> arguments{.x = x.const_data_ptr<T>(),
                                     .q = q.data_ptr<E4m3>(),
                                     .scale = scale.data_ptr<float>(),
                                     .k = static_cast<int>(x.size(1)),
                                     .packed = false};
  arguments.packed = CanPack(arguments.x, x.size(1)) && CanPack(arguments.q, x.size(1));
  Launch(QuantizeRowsKernel<T>, dim3{static_cast<unsigned>(x.size(0))}, kQuantizeThreads, stream,
         arguments);
  return q;
}

// REQUIRES: a.out and its rows are aligned to 16 bytes.
inline void LaunchUntile(const DequantizeArguments<E4m3>& a, Stream stream) {
  constexpr int kBlockSteps = kUntileThreads / static_cast<int>(kTileColumns) * kUntileVectors * 4;
  const dim3 grid{static_cast<unsigned>((a.columns + kTileColumns - 1) / kTileColumns),
                  static_cast<unsigned>((a.w.steps + kBlockSteps - 1) / kBlockSteps)};
  Launch(UntileKernel<E4m3>, grid, kUntileThreads, stream, a);
}

// x [m, k] times w [n, k] → bf16 [m, n], contiguous. x_scale: f32 [m], w_scale: f32 [n].
inline at::Tensor ScaledProduct(const at::Tensor& x, const at::Tensor& w, const at::Tensor& x_scale,
                                const at::Tensor& w_scale) {
#ifdef __CUDACC__
  return at::_scaled_mm(x, w.t(), x_scale.unsqueeze(1), w_scale.unsqueeze(0), {}, {},
                        at::kBFloat16);
#else
  const auto numbers = [](const at::Tensor& q, const at::Tensor& scale) {
    return q.to(at::kFloat).mul(scale.unsqueeze(1));
  };
  return at::mm(numbers(x, x_scale), numbers(w, w_scale).t()).to(at::kBFloat16);
#endif
}

// Whether at::_scaled_mm takes these with one scale per row: bf16 on chips that multiply fp8, both
// sizes multiples of 16.
inline bool TakesScaledProduct(const at::Tensor& x, int64_t n, const OnDevice& device) {
  return device.supports_fp8() && x.scalar_type() == at::kBFloat16 && x.size(1) % 16 == 0 &&
         n % 16 == 0;
}

// x [m, k] bf16 → [m, n]. W is copied in parts of at most `part` columns, a multiple of 64.
// REQUIRES: TakesScaledProduct.
inline at::Tensor Fp8ScaledLinear(const at::Tensor& x, const at::Tensor& weight,
                                  const PackedWords& w, int64_t n, int64_t part,
                                  const OnDevice& device) {
  const at::Tensor x_scale = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
  const at::Tensor q = QuantizeRows<c10::BFloat16>(x, x_scale, device.stream());
  const at::Tensor scales = Fp8Scales(weight).reshape({-1});
  const at::Tensor rows = at::empty({std::min(n, part), x.size(1)}, q.options());
  at::Tensor out;
  for (int64_t first = 0; first < n; first += part) {
    const int64_t columns = std::min(part, n - first);
    LaunchUntile({.w = w,
                  .out = rows.data_ptr<E4m3>(),
                  .first = static_cast<int>(first),
                  .columns = static_cast<int>(columns),
                  .packed = false},
                 device.stream());
    const at::Tensor y =
        ScaledProduct(q, rows.narrow(0, 0, columns), x_scale, scales.narrow(0, first, columns));
    if (columns == n) return y;
    if (first == 0) out = at::empty({x.size(0), n}, x.options());
    // _scaled_mm writes only whole rows on some chips.
    out.narrow(1, first, columns).copy_(y);
  }
  return out;
}

}  // namespace idefics::IDEFICS_TARGET
