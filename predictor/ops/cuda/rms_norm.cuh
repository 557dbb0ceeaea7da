// SPDX-License-Identifier: Apache-2.0
// RMSNorm with the two roundings of docs/model.md#rmsnorm: one of the normalised value, one of the
// product. A residual before it is added in the same pass.
#pragma once

#include "predictor/ops/cuda/lanes.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kNormThreads = 256;

template <typename T>
struct RmsNormArguments {
  const T* x;       // [rows, size]
  const T* weight;  // [size]
  T* out;           // [rows, size]
  int64_t rows;
  int size;
  float eps;
  bool packed;
  // add_norm: x + gate · y is written and normalised in the place of x. Null: plain rms_norm.
  const T* y = nullptr;     // [rows, size]
  const T* gate = nullptr;  // [gate_size]
  int gate_size = 0;        // 0, 1 or size
  T* sum = nullptr;         // [rows, size]
};

// x + gate · y of the pack at `i`; the product, then the sum, rounded to T.
template <typename T>
__device__ __forceinline__ Pack<T> AddResidual(const RmsNormArguments<T>& a, Pack<T> x, const T* y,
                                               int i, int size) {
  const Pack<T> other = LoadPack(y, i, size, a.packed);
  const Pack<T> gates = a.gate_size > 1 ? LoadPack(a.gate, i, size, a.packed) : Pack<T>{};
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    T added = other.at[j];
    if (a.gate_size != 0) {
      const T gate = a.gate_size == 1 ? *a.gate : gates.at[j];
      added = static_cast<T>(static_cast<float>(gate) * static_cast<float>(added));
    }
    x.at[j] = static_cast<T>(static_cast<float>(x.at[j]) + static_cast<float>(added));
  }
  return x;
}

// Sum over the kRowThreads neighbouring threads that share a row.
template <int kRowThreads>
__device__ __forceinline__ float RowSum(float value) {
  value = GroupSum<32>(value);
  if constexpr (kRowThreads > 32) {
    static_assert(kRowThreads == kNormThreads, "one row a block");
    __shared__ float warp_sums[kNormThreads / 32];
    if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < kNormThreads / 32; ++warp) value += warp_sums[warp];
  }
  return value;
}

template <typename T, int kRowThreads>
__global__ void __launch_bounds__(kNormThreads) RmsNormKernel(RmsNormArguments<T> a) {
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * (kNormThreads / kRowThreads) + threadIdx.x / kRowThreads;
  const int size =
      row < a.rows ? a.size : 0;  // threads beyond the last row only take part in the barriers
  const T* x = a.x + row * a.size;
  const int first = static_cast<int>(threadIdx.x % kRowThreads) * kPack;
  float squares = 0;
  for (int i = first; i < size; i += kRowThreads * kPack) {
    Pack<T> pack = LoadPack(x, i, size, a.packed);
    if (a.sum != nullptr) {
      pack = AddResidual(a, pack, a.y + row * a.size, i, size);
      StorePack(pack, a.sum + row * a.size, i, size, a.packed);
    }
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      const float value = static_cast<float>(pack.at[j]);
      squares += value * value;
    }
  }
  const float mean = RowSum<kRowThreads>(squares) / static_cast<float>(a.size);
  const float scale = 1.0f / sqrtf(mean + a.eps);
  if (a.sum != nullptr) x = a.sum + row * a.size;  // each thread reads what it has written
  for (int i = first; i < size; i += kRowThreads * kPack) {
    Pack<T> pack = LoadPack(x, i, size, a.packed);
    const Pack<T> weight = LoadPack(a.weight, i, size, a.packed);
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      const T normal = static_cast<T>(static_cast<float>(pack.at[j]) * scale);
      pack.at[j] = static_cast<T>(static_cast<float>(weight.at[j]) * static_cast<float>(normal));
    }
    StorePack(pack, a.out + row * a.size, i, size, a.packed);
  }
}

template <typename T>
void LaunchRmsNorm(RmsNormArguments<T> a, Stream stream) {
  if (a.rows == 0) return;
  a.packed = CanPack(a.x, a.size) && CanPack(a.weight, a.size) && CanPack(a.out, a.size) &&
             CanPack(a.y, a.size) && CanPack(a.sum, a.size) && CanPack(a.gate, a.size);
  constexpr int kWarpRows = kNormThreads / 32;
  if (a.size <= 1024) {  // a warp a row: heads of 128 numbers, narrow models
    const dim3 grid{static_cast<unsigned>((a.rows + kWarpRows - 1) / kWarpRows)};
    Launch(RmsNormKernel<T, 32>, grid, kNormThreads, stream, a);
  } else {
    const dim3 grid{static_cast<unsigned>(a.rows)};
    Launch(RmsNormKernel<T, kNormThreads>, grid, kNormThreads, stream, a);
  }
}

}  // namespace idefics::IDEFICS_TARGET
