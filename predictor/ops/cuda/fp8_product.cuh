// SPDX-License-Identifier: Apache-2.0
// y = x Wᵀ for many rows with both sides in e4m3, on chips that multiply it: x is quantized row by
// row, W [n, k] is as it is stored.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "predictor/ops/cuda/lanes.cuh"
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

// x [m, k] bf16 → [m, n]. REQUIRES: TakesScaledProduct.
inline at::Tensor Fp8ScaledLinear(const at::Tensor& x, const at::Tensor& weight, int64_t n,
                                  const OnDevice& device) {
  const at::Tensor x_scale = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
  const at::Tensor q = QuantizeRows<c10::BFloat16>(x, x_scale, device.stream());
  return ScaledProduct(q, Fp8Rows(weight, n, x.size(1)), x_scale,
                       Fp8Scales(weight).narrow(0, 0, n));
}

}  // namespace idefics::IDEFICS_TARGET
