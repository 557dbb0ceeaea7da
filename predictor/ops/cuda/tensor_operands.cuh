// SPDX-License-Identifier: Apache-2.0
// How numbers become operands of a tensor core (tensor_core.cuh): matrices read from shared memory,
// straight or transposed, and pairs of 16 bit made of f32. PTX ISA: ldmatrix.
#pragma once

#include <stdexcept>

#include "predictor/ops/cuda/tensor_core.cuh"

namespace idefics::IDEFICS_TARGET {

// Four matrices of 8 × 8 numbers: of each, the lane's numbers 2j and 2j + 1 of row g.
struct FourMatrices {
  uint32_t pairs[4];

  __device__ __forceinline__ OperandB First() const { return {{pairs[0], pairs[1]}}; }
  __device__ __forceinline__ OperandB Second() const { return {{pairs[2], pairs[3]}}; }
};

#ifdef __CUDACC__

// Both as numbers of T, rounded to the nearest.
template <typename T>
__device__ __forceinline__ uint32_t PairOf(float low, float high) {
  HalfPair<T> pair;
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    pair = __floats2bfloat162_rn(low, high);
  } else {
    pair = __floats2half2_rn(low, high);
  }
  return *reinterpret_cast<const uint32_t*>(&pair);
}

template <typename T>
__device__ __forceinline__ Pack<float, 2> FloatsOf(uint32_t pair) {
  const auto* const halves = reinterpret_cast<const HalfPair<T>*>(&pair);
  float2 numbers;
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    numbers = __bfloat1622float2(*halves);
  } else {
    numbers = __half22float2(*halves);
  }
  return {{numbers.x, numbers.y}};
}

// Reads four matrices from shared memory. Lane l says where row l % 8 of matrix l / 8 begins,
// aligned to 16 bytes. kTransposed: the lane's numbers are of column g.
template <bool kTransposed>
__device__ __forceinline__ FourMatrices LoadMatrices(const void* row) {
  FourMatrices m;
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.pairs[0]), "=r"(m.pairs[1]), "=r"(m.pairs[2]), "=r"(m.pairs[3])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.pairs[0]), "=r"(m.pairs[1]), "=r"(m.pairs[2]), "=r"(m.pairs[3])
                 : "r"(from)
                 : "memory");
  }
  return m;
}

#else

template <typename T>
uint32_t PairOf(float low, float high) {
  const Pack<T, 2> both{{static_cast<T>(low), static_cast<T>(high)}};
  uint32_t word;
  std::memcpy(&word, &both, sizeof(word));
  return word;
}

template <typename T>
Pack<float, 2> FloatsOf(uint32_t pair) {
  const auto both = Halves<T>(pair);
  return {{static_cast<float>(both.at[0]), static_cast<float>(both.at[1])}};
}

template <bool kTransposed>
FourMatrices LoadMatrices(const void* row) {
  const unsigned lane = threadIdx.x % 32;
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
    throw std::logic_error("a row of a matrix must be aligned to 16 bytes");
  }
  std::memcpy(WarpPlace(lane), &row, sizeof(row));
  WarpBarrier();
  FourMatrices m;
  for (unsigned matrix = 0; matrix < 4; ++matrix) {
    uint16_t halves[2];
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned along = lane % 4 * 2 + i;
      const uint16_t* numbers;
      std::memcpy(&numbers, WarpPlace(matrix * 8 + (kTransposed ? along : lane / 4)),
                  sizeof(numbers));
      halves[i] = numbers[kTransposed ? lane / 4 : along];
    }
    std::memcpy(&m.pairs[matrix], halves, sizeof(halves));
  }
  WarpBarrier();  // all have read before a thread goes on
  return m;
}

#endif

// Two numbers as numbers of T, and what that leaves of them, also as numbers of T.
template <typename T>
__device__ __forceinline__ void SplitPair(float low, float high, uint32_t& pair, uint32_t& rest) {
  pair = PairOf<T>(low, high);
  const Pack<float, 2> taken = FloatsOf<T>(pair);
  rest = PairOf<T>(low - taken.at[0], high - taken.at[1]);
}

}  // namespace idefics::IDEFICS_TARGET
