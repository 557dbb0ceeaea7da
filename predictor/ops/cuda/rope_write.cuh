// SPDX-License-Identifier: Apache-2.0
// Rotary embedding of q and k (halves, arXiv 2104.09864 as in GPT-NeoX) and the write of k and v to
// their slots of the cache.
#pragma once

#include "predictor/ops/cuda/attend_keys.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kRopeThreads = 256;
constexpr int kWarp = 32;

// `Key`: what the caches hold, T or int8_t (../kv_cache.h).
template <typename T, typename Key>
struct RopeWriteArguments {
  const T* qkv;          // [tokens, 3, heads, 2 * half]
  const float* cos;      // [tokens, half]
  const float* sin;      // [tokens, half]
  const int32_t* slots;  // [tokens]
  Key* k_cache;
  Key* v_cache;
  T* q;  // [tokens, heads, 2 * half]
  int64_t tokens;
  int heads;
  int half;
};

template <typename T>
struct RopePair {
  T first;
  T second;
};

// in: the first number of a pair; the other is `half` behind.
template <typename T>
__device__ __forceinline__ RopePair<T> Rotate(const T* in, int half, float cos, float sin) {
  const float first = static_cast<float>(in[0]);
  const float second = static_cast<float>(in[half]);
  return {static_cast<T>(first * cos - second * sin), static_cast<T>(second * cos + first * sin)};
}

template <typename T>
__device__ __forceinline__ void StorePair(const RopePair<T>& pair, T* out, int half) {
  out[0] = pair.first;
  out[half] = pair.second;
}

// A thread turns one pair of q and of k and copies two numbers of v.
template <typename T>
__global__ void __launch_bounds__(kRopeThreads) RopeWriteKernel(RopeWriteArguments<T, T> a) {
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
  StorePair(Rotate(in, a.half, cos, sin), a.q + token * width + in_token, a.half);
  StorePair(Rotate(in + width, a.half, cos, sin), a.k_cache + cached, a.half);
  StorePair({in[2 * width], in[2 * width + a.half]}, a.v_cache + cached, a.half);
}

// Infinity where a number is not finite.
template <typename T>
__device__ __forceinline__ float LargestOf(const RopePair<T>& pair) {
  const float first = fabsf(static_cast<float>(pair.first));
  const float second = fabsf(static_cast<float>(pair.second));
  return first < INFINITY && second < INFINITY ? fmaxf(first, second) : INFINITY;
}

// How a head's numbers become codes.
struct CodeScale {
  float scale;    // NaN where a number is not finite
  float inverse;  // 0 there

  explicit __device__ CodeScale(float largest)
      : scale(largest < INFINITY ? largest / 127.0f : NAN),
        inverse(largest > 0.0f && largest < INFINITY ? 127.0f / largest : 0.0f) {}

  template <typename T>
  __device__ __forceinline__ RopePair<int8_t> Codes(const RopePair<T>& pair) const {
    return {Code(static_cast<float>(pair.first)), Code(static_cast<float>(pair.second))};
  }
  __device__ __forceinline__ int8_t Code(float x) const {
    return inverse > 0.0f ? static_cast<int8_t>(rintf(x * inverse)) : int8_t{0};
  }
};

// A warp turns one head's q and k and stores its k and v in 8 bit.
template <typename T>
__global__ void __launch_bounds__(kRopeThreads)
    RopeWriteInt8Kernel(RopeWriteArguments<T, int8_t> a) {
  const int64_t token = blockIdx.x;
  const int head = static_cast<int>((blockIdx.y * blockDim.x + threadIdx.x) / kWarp);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  if (head >= a.heads) return;
  const int dim = 2 * a.half;
  const int64_t width = static_cast<int64_t>(a.heads) * dim;
  const T* in = a.qkv + token * 3 * width + head * dim;
  const float* cos = a.cos + token * a.half;
  const float* sin = a.sin + token * a.half;
  const auto turned_k = [&](int at) { return Rotate(in + width + at, a.half, cos[at], sin[at]); };
  const auto value = [&](int at) {
    return RopePair<T>{in[2 * width + at], in[2 * width + at + a.half]};
  };
  float k_largest = 0.0f;
  float v_largest = 0.0f;
  for (int at = lane; at < a.half; at += kWarp) {
    StorePair(Rotate(in + at, a.half, cos[at], sin[at]), a.q + token * width + head * dim + at,
              a.half);
    k_largest = fmaxf(k_largest, LargestOf(turned_k(at)));
    v_largest = fmaxf(v_largest, LargestOf(value(at)));
  }
  const CodeScale k(GroupMax<kWarp>(k_largest));
  const CodeScale v(GroupMax<kWarp>(v_largest));
  const int64_t slot = a.slots[token] * SlotSize<int8_t>(a.heads, dim);
  for (int at = lane; at < a.half; at += kWarp) {
    StorePair(k.Codes(turned_k(at)), a.k_cache + slot + head * dim + at, a.half);
    StorePair(v.Codes(value(at)), a.v_cache + slot + head * dim + at, a.half);
  }
  if (lane == 0) {
    reinterpret_cast<float*>(a.k_cache + slot + width)[head] = k.scale;
    reinterpret_cast<float*>(a.v_cache + slot + width)[head] = v.scale;
  }
}

template <typename T>
void LaunchRopeWrite(const RopeWriteArguments<T, T>& a, Stream stream) {
  if (a.tokens == 0) return;
  const int pairs = a.heads * a.half;
  const dim3 grid{static_cast<unsigned>(a.tokens),
                  static_cast<unsigned>((pairs + kRopeThreads - 1) / kRopeThreads)};
  Launch(RopeWriteKernel<T>, grid, kRopeThreads, stream, a);
}

template <typename T>
void LaunchRopeWrite(const RopeWriteArguments<T, int8_t>& a, Stream stream) {
  if (a.tokens == 0) return;
  constexpr int kHeads = kRopeThreads / kWarp;  // of a block
  const dim3 grid{static_cast<unsigned>(a.tokens),
                  static_cast<unsigned>((a.heads + kHeads - 1) / kHeads)};
  Launch(RopeWriteInt8Kernel<T>, grid, kRopeThreads, stream, a);
}

}  // namespace idefics::IDEFICS_TARGET
