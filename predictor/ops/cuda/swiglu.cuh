// SPDX-License-Identifier: Apache-2.0
// silu(gate) · up. silu is rounded to T first, as two separate ATen operators do.
#pragma once

#include "predictor/ops/cuda/lanes.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kSwigluThreads = 128;

template <typename T>
struct SwigluArguments {
  const T* gate_up;  // [tokens, 2 * size]: gate, then up
  T* out;            // [tokens, size]
  int64_t tokens;
  int size;
  bool packed;
};

template <typename T>
__global__ void __launch_bounds__(kSwigluThreads) SwigluKernel(SwigluArguments<T> a) {
  const int64_t token = blockIdx.x;
  const int first = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * kPack;
  if (first >= a.size) return;
  const T* row = a.gate_up + token * 2 * a.size;
  const Pack<T> gate = LoadPack(row, first, a.size, a.packed);
  Pack<T> out = LoadPack(row + a.size, first, a.size, a.packed);
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    const float g = static_cast<float>(gate.at[i]);
    const T silu = static_cast<T>(g / (1.0f + expf(-g)));
    out.at[i] = static_cast<T>(static_cast<float>(silu) * static_cast<float>(out.at[i]));
  }
  StorePack(out, a.out + token * a.size, first, a.size, a.packed);
}

template <typename T>
void LaunchSwiglu(SwigluArguments<T> a, Stream stream) {
  if (a.tokens == 0) return;
  a.packed = CanPack(a.gate_up, a.size) && CanPack(a.out, a.size);
  constexpr int kBlockSize = kSwigluThreads * kPack;
  const dim3 grid{static_cast<unsigned>(a.tokens),
                  static_cast<unsigned>((a.size + kBlockSize - 1) / kBlockSize)};
  Launch(SwigluKernel<T>, grid, kSwigluThreads, stream, a);
}

}  // namespace idefics::IDEFICS_TARGET
