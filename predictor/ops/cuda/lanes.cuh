// SPDX-License-Identifier: Apache-2.0
// Loads of eight neighbouring numbers of a row at once (16 bytes, f32: 32), and sums over lanes.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>
#include <type_traits>

#include "predictor/ops/cuda/host_device.h"

namespace idefics::IDEFICS_TARGET {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kPack = 8;

template <typename T, int kCount = kPack>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Pack {
  T at[kCount];
};

struct RowShape {
  int dim;
  bool packed;  // CanPack
};

// row[first .. first + kCount), zeros from `size` on. `packed`: row and size allow whole packs
// (CanPack).
template <int kCount = kPack, typename T>
__device__ __forceinline__ Pack<T, kCount> LoadPack(const T* row, int first, int size,
                                                    bool packed) {
  Pack<T, kCount> pack{};
  if (packed) {
    if (first < size) pack = *reinterpret_cast<const Pack<T, kCount>*>(row + first);
    return pack;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (first + i < size) pack.at[i] = row[first + i];
  }
  return pack;
}

// The inverse of LoadPack; writes nothing from `size` on.
template <typename T>
__device__ __forceinline__ void StorePack(const Pack<T>& pack, T* row, int first, int size,
                                          bool packed) {
  if (packed && first < size) {
    *reinterpret_cast<Pack<T>*>(row + first) = pack;
    return;
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    if (first + i < size) row[first + i] = pack.at[i];
  }
}

// Sum over aligned groups of kLanes lanes; every lane of the warp takes part and gets its group's.
template <int kLanes>
__device__ __forceinline__ float GroupSum(float value) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, mask);
  }
  return value;
}

template <int kLanes>
__device__ __forceinline__ float GroupMax(float value) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, mask));
  }
  return value;
}

// Whether rows of `size` elements at `pointer` are whole, aligned packs.
template <int kCount = kPack, typename T>
bool CanPack(const T* pointer, int64_t size) {
  return size % kCount == 0 && reinterpret_cast<uintptr_t>(pointer) % alignof(Pack<T, kCount>) == 0;
}

// Calls run(kPanels as std::integral_constant) with enough panels of 32 numbers for `dim` <= 128.
template <typename Run>
void ForPanels(int dim, const Run& run) {
  if (dim <= 32) {
    run(std::integral_constant<int, 1>{});
  } else if (dim <= 64) {
    run(std::integral_constant<int, 2>{});
  } else if (dim <= 96) {
    run(std::integral_constant<int, 3>{});
  } else {
    run(std::integral_constant<int, 4>{});
  }
}

}  // namespace idefics::IDEFICS_TARGET
