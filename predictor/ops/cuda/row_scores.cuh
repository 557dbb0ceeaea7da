// SPDX-License-Identifier: Apache-2.0
// A row of scores that one block works on: passes over it, and reductions. Only integers are added
// up, so no result depends on the order of the threads. REQUIRES (all functions): every thread of a
// block of kRowThreads calls them.
#pragma once

#include <cstdint>

#include "predictor/ops/cuda/lanes.cuh"
#include "predictor/sampling/device_sampling.h"

namespace idefics::IDEFICS_TARGET {

constexpr int kRowThreads = 1024;
constexpr int kRowWarps = kRowThreads / 32;
static_assert(kRowWarps == 32, "a warp combines the results of all warps");

// A probability mass in fixed point, in units of 2^-40: 2^17 tokens of up to 1 stay below 2^57.
using FixedPoint = unsigned long long;
constexpr FixedPoint kOne = 1ull << 40;

constexpr int kDigits = 256;
constexpr int kCopies = 8;  // of each sum, so that fewer threads add to the same one

// Shared memory of a block.
struct RowMemory {
  unsigned seen[kMaxDeviceVocab / 32];  // a bit for each token of the history
  // Sums of masses in two halves: CUDA's 64-bit atomics on shared memory are slow retry loops.
  unsigned low[kDigits][kCopies];
  unsigned high[kDigits][kCopies];
  FixedPoint masses[kDigits];
  FixedPoint of_warp[kRowWarps];
  unsigned digit;
  FixedPoint below;
};

struct Row {
  float* scores;  // [vocab]
  int vocab;
  RowMemory* memory;
};

// Calls visit(i, score of i) for every i. A thread gets the same ones in every pass and may write
// them.
template <typename Visit>
__device__ __forceinline__ void ForEachScore(const Row& row, const Visit& visit) {
  constexpr int kBatch = 8;  // loads under way at once
  for (int first = static_cast<int>(threadIdx.x); first < row.vocab;
       first += kBatch * kRowThreads) {
    float batch[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int i = first + j * kRowThreads;
      batch[j] = i < row.vocab ? row.scores[i] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int i = first + j * kRowThreads;
      if (i < row.vocab) visit(i, batch[j]);
    }
  }
}

// Combines one value of each thread; all get the result. combine: commutative and associative.
template <typename Combine>
__device__ __forceinline__ FixedPoint Reduce(const Row& row, FixedPoint value,
                                             const Combine& combine) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, mask));
  }
  FixedPoint* of_warp = row.memory->of_warp;
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  value = of_warp[threadIdx.x % 32];
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, mask));
  }
  __syncthreads();  // of_warp is free again
  return value;
}

// Sum of mass(score) over all tokens.
template <typename MassOf>
__device__ __forceinline__ FixedPoint TotalOf(const Row& row, const MassOf& mass) {
  FixedPoint total = 0;
  ForEachScore(row, [&](int, float score) { total += mass(score); });
  return Reduce(row, total, [](FixedPoint a, FixedPoint b) { return a + b; });
}

__device__ __forceinline__ uint32_t BitsOf(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// A key whose order is that of the numbers; both zeros have the same.
__device__ __forceinline__ uint32_t Ascending(float value) {
  const uint32_t bits = BitsOf(value + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float FromAscending(uint32_t key) {
  const uint32_t bits = (key >> 31) != 0 ? key & 0x7fffffffu : ~key;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

struct Best {
  float score;
  int token;
};

// The largest score; the first of equal ones.
__device__ __forceinline__ Best FindBest(const Row& row) {
  FixedPoint best = 0;
  ForEachScore(row, [&](int i, float score) {
    const FixedPoint place = FixedPoint{Ascending(score)} << 32 | ~static_cast<uint32_t>(i);
    best = place > best ? place : best;
  });
  best = Reduce(row, best, [](FixedPoint a, FixedPoint b) { return a > b ? a : b; });
  return {FromAscending(static_cast<uint32_t>(best >> 32)),
          static_cast<int>(~static_cast<uint32_t>(best))};
}

}  // namespace idefics::IDEFICS_TARGET
