// SPDX-License-Identifier: Apache-2.0
// Products whose k is divided among blocks (k_splits.h): each leaves its part of the sums, and a
// second kernel adds the parts in order, so that timing has no part in a row's bits.
#pragma once

#include "predictor/ops/cuda/packed_words.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kSumThreads = 256;

template <typename T>
struct SplitProduct {
  SkinnyArguments<T> of;
  int splits;    // blocks that divide k
  float* parts;  // splits > 1: [splits, rows, n]
};

// Takes the sum of one output, or the part of it that split `split` has.
template <typename Packed, typename T>
__device__ __forceinline__ void StoreSum(const SplitProduct<T>& a, int split, int row, int column,
                                         float sum) {
  const int64_t at = static_cast<int64_t>(row) * a.of.n + column;
  if (a.splits == 1) {
    a.of.out[at] = static_cast<T>(Packed::Finish(a.of.w, sum, column));
  } else {
    a.parts[split * static_cast<int64_t>(a.of.rows) * a.of.n + at] = sum;
  }
}

template <typename Packed, typename T>
__global__ void __launch_bounds__(kSumThreads) SumPartsKernel(SplitProduct<T> a) {
  const int64_t count = static_cast<int64_t>(a.of.rows) * a.of.n;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  if (at >= count) return;
  float sum = 0;
  for (int split = 0; split < a.splits; ++split) sum += a.parts[split * count + at];
  a.of.out[at] = static_cast<T>(Packed::Finish(a.of.w, sum, static_cast<int>(at % a.of.n)));
}

// Behind the product's kernel; nothing where k is not divided.
template <typename Packed, typename T>
void LaunchSumParts(const SplitProduct<T>& a, Stream stream) {
  if (a.splits == 1) return;
  const int64_t count = static_cast<int64_t>(a.of.rows) * a.of.n;
  Launch(SumPartsKernel<Packed, T>,
         dim3{static_cast<unsigned>((count + kSumThreads - 1) / kSumThreads)}, kSumThreads, stream,
         a);
}

}  // namespace idefics::IDEFICS_TARGET
