// SPDX-License-Identifier: Apache-2.0
// Converts packed weights back to W [n, k], for cuBLAS's products of many rows.
#pragma once

#include "predictor/ops/cuda/packed_words.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kDequantizeThreads = 256;
constexpr int kDequantizeRun =
    16;  // values of k for a thread: whole 32-byte sectors of a row of W in 16 bit

template <typename T>
struct DequantizeArguments {
  PackedWords w;
  T* out;  // [columns, k]: rows first … first + columns - 1 of W
  int first;
  int columns;
  bool packed;
};

// A thread unpacks one run of k of one column; neighbouring threads read neighbouring words.
template <typename Packed, typename T>
__global__ void __launch_bounds__(kDequantizeThreads) DequantizeKernel(DequantizeArguments<T> a) {
  constexpr int kColumns = static_cast<int>(kTileColumns);
  const int at = static_cast<int>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x) % kColumns;
  const int run = static_cast<int>(blockIdx.y) * (kDequantizeThreads / kColumns) +
                  static_cast<int>(threadIdx.x) / kColumns;
  const int begin = run * kDequantizeRun;
  if (at >= a.columns || begin >= a.w.k) return;
  const int column = a.first + at;
  const WeightRange range = Packed::Range(a.w, column, begin);
#pragma unroll
  for (int first = begin; first < begin + kDequantizeRun; first += kPack) {
    Pack<T> pack;
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const int step = (first + i) / Packed::kValues;
      const uint32_t word = step < a.w.steps ? Packed::WordAt(a.w, column, step) : 0;
      pack.at[i] =
          static_cast<T>(range.step * Packed::ValueAt(word, i % Packed::kValues) + range.minimum);
    }
    StorePack(pack, a.out + static_cast<int64_t>(at) * a.w.k, first, a.w.k, a.packed);
  }
}

// REQUIRES: first is a multiple of 64.
template <typename Packed, typename T>
void LaunchDequantize(DequantizeArguments<T> a, Stream stream) {
  a.packed = CanPack(a.out, a.w.k);
  constexpr int kBlockRun = kDequantizeThreads / static_cast<int>(kTileColumns) * kDequantizeRun;
  const dim3 grid{static_cast<unsigned>((a.columns + kTileColumns - 1) / kTileColumns),
                  static_cast<unsigned>((a.w.k + kBlockRun - 1) / kBlockRun)};
  Launch(DequantizeKernel<Packed, T>, grid, kDequantizeThreads, stream, a);
}

}  // namespace idefics::IDEFICS_TARGET
