// SPDX-License-Identifier: Apache-2.0
// Finds the key at which a cumulative mass passes a target: the one search behind every warper and
// the draw. A radix select, which finds eight bits of the key in each pass.
#pragma once

#include "predictor/ops/cuda/row_scores.cuh"

namespace idefics::IDEFICS_TARGET {

struct Boundary {
  uint32_t key;
  FixedPoint below;  // mass of all smaller keys
};

__device__ __forceinline__ void ClearDigits(RowMemory& memory) {
  for (int i = static_cast<int>(threadIdx.x); i < kDigits * kCopies; i += kRowThreads) {
    memory.low[i / kCopies][i % kCopies] = 0;
    memory.high[i / kCopies][i % kCopies] = 0;
  }
}

__device__ __forceinline__ void AddToDigit(RowMemory& memory, unsigned digit, FixedPoint mass) {
  if (mass == 0) return;
  const unsigned copy = threadIdx.x % kCopies;
  const auto low = static_cast<unsigned>(mass);
  const unsigned before = atomicAdd(&memory.low[digit][copy], low);
  const unsigned carry = before + low < before ? 1 : 0;
  const unsigned high = static_cast<unsigned>(mass >> 32) + carry;
  if (high != 0) atomicAdd(&memory.high[digit][copy], high);
}

__device__ __forceinline__ void SumCopies(RowMemory& memory) {
  const unsigned digit = threadIdx.x;
  if (digit >= kDigits) return;
  FixedPoint mass = 0;
#pragma unroll
  for (unsigned i = 0; i < kCopies; ++i) {
    const unsigned copy = (i + digit / 4) % kCopies;  // lanes read different banks
    mass += (FixedPoint{memory.high[digit][copy]} << 32) + memory.low[digit][copy];
  }
  memory.masses[digit] = mass;
  if (digit == 0) {
    memory.digit = 0;
    memory.below = 0;
  }
}

// Run by one warp: finds the first digit with mass(digits <= it) > target; 0 where there is none.
__device__ __forceinline__ void FindDigit(RowMemory& memory, FixedPoint target) {
  constexpr unsigned kLaneDigits = kDigits / 32;
  const unsigned lane = threadIdx.x % 32;
  const unsigned first = lane * kLaneDigits;
  FixedPoint own = 0;
  for (unsigned digit = first; digit < first + kLaneDigits; ++digit) own += memory.masses[digit];
  FixedPoint before = 0;  // of the lanes before this one
  FixedPoint group = own;
#pragma unroll
  for (unsigned mask = 1; mask < 32; mask *= 2) {
    const FixedPoint other = __shfl_xor_sync(kAllLanes, group, static_cast<int>(mask));
    if ((lane & mask) != 0) before += other;
    group += other;
  }
  if (target < before || target >= before + own) return;
  unsigned digit = first;
  while (target >= before + memory.masses[digit]) before += memory.masses[digit++];
  memory.digit = digit;
  memory.below = before;
}

// The smallest key with mass(keys <= it) > target. key(i, score) has `bits` bits, 8 to 32;
// mass(i, score) is a token's mass. REQUIRES: the total mass > target.
template <typename KeyOf, typename MassOf>
__device__ __forceinline__ Boundary RadixSelect(const Row& row, int bits, const KeyOf& key,
                                                const MassOf& mass, FixedPoint target) {
  RowMemory& memory = *row.memory;
  Boundary found{0, 0};
  for (int shift = bits - 8; shift >= 0; shift -= 8) {
    ClearDigits(memory);
    __syncthreads();
    ForEachScore(row, [&](int i, float score) {
      const uint32_t value = key(i, score);
      if ((value ^ found.key) >> shift >> 8 != 0) return;
      AddToDigit(memory, (value >> shift) % kDigits, mass(i, score));
    });
    __syncthreads();
    SumCopies(memory);
    __syncthreads();
    if (threadIdx.x < 32) FindDigit(memory, target - found.below);
    __syncthreads();
    found.key |= memory.digit << shift;
    found.below += memory.below;
  }
  return found;
}

// Bits of a token's index, in whole digits.
__device__ __forceinline__ int IndexBits(const Row& row) {
  return row.vocab <= 1 << 8 ? 8 : row.vocab <= 1 << 16 ? 16 : 24;
}

}  // namespace idefics::IDEFICS_TARGET
