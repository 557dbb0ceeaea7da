// SPDX-License-Identifier: Apache-2.0
// One product of a tensor core, D[16, 8] += A[16, 16] · B[16, 8] in f32 over bf16 or f16, and
// copies from global to shared memory that run beside the arithmetic. PTX ISA: mma.m16n8k16,
// cp.async.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include "predictor/ops/cuda/lanes.cuh"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace idefics::IDEFICS_TARGET {

// What a lane holds, with g = lane / 4 and j = lane % 4; indices of pairs or numbers in
// parentheses. A: row g (0, 2) and g + 8 (1, 3); k 2j and 2j + 1 (0, 1), 2j + 8 and 2j + 9 (2, 3).
// B: column g; k as A. D: row g (0, 1) and g + 8 (2, 3), columns 2j and 2j + 1. The caller may
// assign its values of k to these in any order that A and B share.
struct OperandA {
  uint32_t pairs[4];
};
struct OperandB {
  uint32_t pairs[2];
};
struct TileSums {
  float at[4];
};

#ifdef __CUDACC__

template <typename T>
__device__ __forceinline__ void MultiplyAdd(TileSums& d, const OperandA& a, const OperandB& b) {
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d.at[0]), "+f"(d.at[1]), "+f"(d.at[2]), "+f"(d.at[3])
        : "r"(a.pairs[0]), "r"(a.pairs[1]), "r"(a.pairs[2]), "r"(a.pairs[3]), "r"(b.pairs[0]),
          "r"(b.pairs[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d.at[0]), "+f"(d.at[1]), "+f"(d.at[2]), "+f"(d.at[3])
        : "r"(a.pairs[0]), "r"(a.pairs[1]), "r"(a.pairs[2]), "r"(a.pairs[3]), "r"(b.pairs[0]),
          "r"(b.pairs[1]));
  }
}

template <typename T>
using HalfPair = std::conditional_t<std::is_same_v<T, c10::BFloat16>, __nv_bfloat162, __half2>;

// Both halves of a − b.
template <typename T>
__device__ __forceinline__ uint32_t SubtractPair(uint32_t a, uint32_t b) {
  const HalfPair<T> difference =
      __hsub2(*reinterpret_cast<const HalfPair<T>*>(&a), *reinterpret_cast<const HalfPair<T>*>(&b));
  return *reinterpret_cast<const uint32_t*>(&difference);
}

// Both halves of a · b; takes subnormal numbers as they are.
template <typename T>
__device__ __forceinline__ uint32_t MultiplyPair(uint32_t a, uint32_t b) {
  const HalfPair<T> product =
      __hmul2(*reinterpret_cast<const HalfPair<T>*>(&a), *reinterpret_cast<const HalfPair<T>*>(&b));
  return *reinterpret_cast<const uint32_t*>(&product);
}

// Both halves of a · b + c, rounded once.
template <typename T>
__device__ __forceinline__ uint32_t MultiplyAddPair(uint32_t a, uint32_t b, uint32_t c) {
  const HalfPair<T> sum =
      __hfma2(*reinterpret_cast<const HalfPair<T>*>(&a), *reinterpret_cast<const HalfPair<T>*>(&b),
              *reinterpret_cast<const HalfPair<T>*>(&c));
  return *reinterpret_cast<const uint32_t*>(&sum);
}

// (low of a, low of b) and (high of a, high of b).
__device__ __forceinline__ uint32_t LowHalves(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, 0x5410);
}
__device__ __forceinline__ uint32_t HighHalves(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, 0x7632);
}

// Copies 16 aligned bytes; this thread sees them once WaitForAsyncCopies returns.
__device__ __forceinline__ void CopyAsync(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(global)
               : "memory");
}
__device__ __forceinline__ void CommitAsyncCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits for all groups but the last kBut ones.
template <int kBut>
__device__ __forceinline__ void WaitForAsyncCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kBut) : "memory");
}

#else

// The numbers in both halves of a word.
template <typename T>
Pack<T, 2> Halves(uint32_t word) {
  Pack<T, 2> halves;
  std::memcpy(&halves, &word, sizeof(word));
  return halves;
}

template <typename T>
void MultiplyAdd(TileSums& d, const OperandA& a, const OperandB& b) {
  struct Operands {
    OperandA a;
    OperandB b;
  };
  const Operands mine{a, b};
  const Operands* const place = &mine;
  const unsigned lane = threadIdx.x % 32;
  std::memcpy(WarpPlace(lane), &place, sizeof(place));
  WarpBarrier();
  const auto of = [](unsigned other) -> const Operands& {
    const Operands* pointer;
    std::memcpy(&pointer, WarpPlace(other), sizeof(pointer));
    return *pointer;
  };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + i / 2 * 8;
    const unsigned column = lane % 4 * 2 + i % 2;
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned j = k % 8 / 2;
      const auto left = Halves<T>(of(row % 8 * 4 + j).a.pairs[row / 8 + k / 8 * 2]);
      const auto right = Halves<T>(of(column * 4 + j).b.pairs[k / 8]);
      d.at[i] += static_cast<float>(left.at[k % 2]) * static_cast<float>(right.at[k % 2]);
    }
  }
  WarpBarrier();  // all have read before a thread goes on
}

// of(left, right) of the halves of two words.
template <typename T, typename Of>
uint32_t EachHalf(uint32_t a, uint32_t b, const Of& of) {
  const auto left = Halves<T>(a);
  const auto right = Halves<T>(b);
  Pack<T, 2> both;
  for (int i = 0; i < 2; ++i) {
    both.at[i] =
        static_cast<T>(of(static_cast<float>(left.at[i]), static_cast<float>(right.at[i])));
  }
  uint32_t word;
  std::memcpy(&word, &both, sizeof(word));
  return word;
}

template <typename T>
uint32_t SubtractPair(uint32_t a, uint32_t b) {
  return EachHalf<T>(a, b, std::minus<float>());
}
template <typename T>
uint32_t MultiplyPair(uint32_t a, uint32_t b) {
  return EachHalf<T>(a, b, std::multiplies<float>());
}
template <typename T>
uint32_t MultiplyAddPair(uint32_t a, uint32_t b, uint32_t c) {
  const auto left = Halves<T>(a);
  const auto right = Halves<T>(b);
  const auto added = Halves<T>(c);
  Pack<T, 2> both;
  for (int i = 0; i < 2; ++i) {
    both.at[i] =
        static_cast<T>(std::fma(static_cast<float>(left.at[i]), static_cast<float>(right.at[i]),
                                static_cast<float>(added.at[i])));
  }
  uint32_t word;
  std::memcpy(&word, &both, sizeof(word));
  return word;
}

inline uint32_t LowHalves(uint32_t a, uint32_t b) { return (a & 0xffff) | b << 16; }
inline uint32_t HighHalves(uint32_t a, uint32_t b) { return a >> 16 | (b & 0xffff0000); }

template <int kBut>
void WaitForAsyncCopies() {
  WaitForAsyncCopies(size_t{kBut});
}

#endif

}  // namespace idefics::IDEFICS_TARGET
