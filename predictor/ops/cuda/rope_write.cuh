// SPDX-License-Identifier: Apache-2.0
// Rotary embedding of q and k (halves, arXiv 2104.09864 as in GPT-NeoX) and the write of k and v to
// their slots of the cache.
#pragma once

#include "predictor/ops/cuda/lanes.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kRopeThreads = 256;

template <typename T>
struct RopeWriteArguments {
  const T* qkv;          // [tokens, 3, heads, 2 * half]
  const float* cos;      // [tokens, half]
  const float* sin;      // [tokens, half]
  const int32_t* slots;  // [tokens]
  T* k_cache;            // [slots, heads, 2 * half]
  T* v_cache;            // [slots, heads, 2 * half]
  T* q;                  // [tokens, heads, 2 * half]
  int64_t tokens;
  int heads;
  int half;
};

template <typename T>
__device__ __forceinline__ void Rotate(const T* in, T* out, int half, float cos, float sin) {
  const float first = static_cast<float>(in[0]);
  const float second = static_cast<float>(in[half]);
  out[0] = static_cast<T>(first * cos - second * sin);
  out[half] = static_cast<T>(second * cos + first * sin);
}

// A thread turns one pair of q and of k and copies two numbers of v.
template <typename T>
__global__ void __launch_bounds__(kRopeThreads) RopeWriteKernel(RopeWriteArguments<T> a) {
  const int64_t token = blockIdx.x;
  const int pair = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (pair >= a.heads * a.half) return;
  const int at = pair % a.half;
  const int in_token = pair / a.half * 2 * a.half + at;  // of the pair's first number
  const int64_t width = static_cast<int64_t>(a.heads) * 2 * a.half;
  const T* in = a.qkv + token * 3 * width + in_token;
  const float cos = a.cos[token * a.half + at];
  const float sin = a.sin[token * a.half + at];
  const int64_t cached = a.slots[token] * width + in_token;
  Rotate(in, a.q + token * width + in_token, a.half, cos, sin);
  Rotate(in + width, a.k_cache + cached, a.half, cos, sin);
  a.v_cache[cached] = in[2 * width];
  a.v_cache[cached + a.half] = in[2 * width + a.half];
}

template <typename T>
void LaunchRopeWrite(const RopeWriteArguments<T>& a, Stream stream) {
  if (a.tokens == 0) return;
  const int pairs = a.heads * a.half;
  const dim3 grid{static_cast<unsigned>(a.tokens),
                  static_cast<unsigned>((pairs + kRopeThreads - 1) / kRopeThreads)};
  Launch(RopeWriteKernel<T>, grid, kRopeThreads, stream, a);
}

}  // namespace idefics::IDEFICS_TARGET
