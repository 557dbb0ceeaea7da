// SPDX-License-Identifier: Apache-2.0
// The words of packed weights (../packed_weight.h) as operands of a tensor core. Each form says
// where the words of a chunk lie and multiplies a chunk: 16 steps of 32 columns, half a tile. Lane
// (g, j) of a warp, g = lane / 4 and j = lane % 4, takes columns 4g … 4g + 3; its word of column
// 4g + r is column g of product r.
#pragma once

#include <cstring>

#include "predictor/ops/cuda/tensor_core.cuh"
#include "predictor/ops/linear_kernels.h"

namespace idefics::IDEFICS_TARGET {

constexpr int kUnitColumns = 32;  // one cache line of words a step
constexpr int kChunkSteps = 16;
constexpr int kTileRows = 16;  // of x, in one product

using Slot = Pack<uint32_t, 4>;  // 16 bytes

template <typename T>
struct FewRowsArguments {
  const T* x;         // [rows, k]
  const uint32_t* w;  // [tiles, steps, 64]
  const void* scale;  // of the form's own type
  T* out;             // [rows, n]
  int rows;
  int n;
  int k;
  int steps;    // words of a column
  bool packed;  // rows of x are whole packs of the form's kXPack
};

// Sums of 16 rows of x times 32 columns: of product r, columns 4 · (column of the product) + r.
struct UnitSums {
  TileSums at[4];
};

// The word of step `step` of this lane's first column in unit `unit`, or null behind the last step.
template <typename T>
__device__ __forceinline__ const void* WordsAt(const FewRowsArguments<T>& a, int unit, int step) {
  if (step >= a.steps) return nullptr;
  const int64_t row = static_cast<int64_t>(unit / 2) * a.steps + step;
  return a.w + row * kTileColumns + unit % 2 * kUnitColumns + threadIdx.x % 32 / 4 * 4;
}

// W = step · (number of the word) + minimum.
struct WeightRange {
  float step;
  float minimum;
};

// Number `at` of a slot of bf16.
__device__ __forceinline__ float Bf16At(const Slot& slot, int at) {
  const uint32_t word = slot.at[at / 2];
  const uint32_t bits = at % 2 == 0 ? word << 16 : word & 0xffff0000u;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// x[row][first …] of the lane's rows g and g + 8 of a tile of rows.
template <typename T, int kCount>
struct RowPacks {
  Pack<T, kCount> at[2];

  __device__ __forceinline__ RowPacks(const FewRowsArguments<T>& a, int row_tile, int first) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row_tile * kTileRows + static_cast<int>(threadIdx.x) % 32 / 4 + half * 8;
      at[half] = LoadPack<kCount>(a.x + static_cast<int64_t>(row) * a.k, first,
                                  row < a.rows ? a.k : 0, a.packed);
    }
  }

  __device__ __forceinline__ uint32_t Pair(int half, int pair) const {
    uint32_t word;
    memcpy(&word, &at[half].at[pair * 2], sizeof(word));
    return word;
  }
  // Numbers first … first + 3 as (0, 1) and (2, 3).
  __device__ __forceinline__ OperandA Neighbours(int first) const {
    return {
        {Pair(0, first / 2), Pair(1, first / 2), Pair(0, first / 2 + 1), Pair(1, first / 2 + 1)}};
  }
  // Numbers first … first + 3 as (0, 2) and (1, 3).
  __device__ __forceinline__ OperandA Alternate(int first) const {
    const OperandA a = Neighbours(first);
    return {{LowHalves(a.pairs[0], a.pairs[2]), LowHalves(a.pairs[1], a.pairs[3]),
             HighHalves(a.pairs[0], a.pairs[2]), HighHalves(a.pairs[1], a.pairs[3])}};
  }
};

// bf16 and f16: a word is two neighbouring k.
template <typename T>
struct PairWords {
  static constexpr int kValues = 2;
  static constexpr int kSlots = 4;
  static constexpr int kXPack = 4;

  // Neighbouring steps, so that a lane's four k follow each other.
  __device__ __forceinline__ static const void* Source(const FewRowsArguments<T>& a, int unit,
                                                       int chunk, int slot) {
    const int j = static_cast<int>(threadIdx.x) % 4;
    return WordsAt(a, unit, chunk * kChunkSteps + slot / 2 * 8 + j * 2 + slot % 2);
  }

  template <int kRowTiles>
  __device__ __forceinline__ static void Multiply(const FewRowsArguments<T>& a, int chunk,
                                                  const Slot (&slots)[kSlots],
                                                  UnitSums (&sums)[kRowTiles]) {
    const int j = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int first = (chunk * kChunkSteps + half * 8 + j * 2) * 2;
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        const OperandA x = RowPacks<T, 4>(a, tile, first).Neighbours(0);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          MultiplyAdd<T>(sums[tile].at[r], x, {{slots[half * 2].at[r], slots[half * 2 + 1].at[r]}});
        }
      }
    }
  }

  __device__ __forceinline__ static float Finish(const FewRowsArguments<T>& /*a*/, float sum,
                                                 int /*column*/) {
    return sum;
  }

  __device__ __forceinline__ static float Number(uint32_t word, int at) {
    T halves[2];
    memcpy(halves, &word, sizeof(word));
    return static_cast<float>(halves[at]);
  }
  __device__ __forceinline__ static WeightRange Range(const void* /*scale*/, int /*column*/,
                                                      int /*k*/, int /*groups*/) {
    return {1.0f, 0.0f};
  }
};

// The bytes 0, 2 and 1, 3 of a word, each less 128, as exact pairs of T.
template <typename T>
__device__ __forceinline__ OperandB SignedBytes(uint32_t word) {
  OperandB b;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t bytes = word >> (i * 8);
    if constexpr (std::is_same_v<T, c10::BFloat16>) {
      // 0x4300 is 128 and has seven bits left: 128 + low bits, less 128 or, without the top bit,
      // 256.
      b.pairs[i] =
          SubtractPair<T>((bytes & 0x007f007fu) | 0x43004300u, (bytes & 0x00800080u) ^ 0x43804380u);
    } else {
      b.pairs[i] = SubtractPair<T>((bytes & 0x00ff00ffu) | 0x64006400u, 0x64806480u);  // 1024 + u
    }
  }
  return b;
}

// The low nibbles of bytes 0, 2 and 1, 3 of a word as exact pairs of T.
template <typename T>
__device__ __forceinline__ OperandB LowNibbles(uint32_t word) {
  constexpr uint32_t kBase = std::is_same_v<T, c10::BFloat16> ? 0x43004300u : 0x64006400u;
  OperandB b;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    b.pairs[i] = SubtractPair<T>((word >> (i * 8) & 0x000f000fu) | kBase, kBase);
  }
  return b;
}

// int8: a word is four neighbouring k, each plus 128; a scale a column (f32 [tiles, 64]).
template <typename T>
struct Int8Words {
  static constexpr int kValues = 4;
  static constexpr int kSlots = 4;
  static constexpr int kXPack = 4;

  __device__ __forceinline__ static const void* Source(const FewRowsArguments<T>& a, int unit,
                                                       int chunk, int slot) {
    return WordsAt(a, unit, chunk * kChunkSteps + slot * 4 + static_cast<int>(threadIdx.x) % 4);
  }

  template <int kRowTiles>
  __device__ __forceinline__ static void Multiply(const FewRowsArguments<T>& a, int chunk,
                                                  const Slot (&slots)[kSlots],
                                                  UnitSums (&sums)[kRowTiles]) {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      const int step = chunk * kChunkSteps + slot * 4 + static_cast<int>(threadIdx.x) % 4;
      OperandA x[kRowTiles];
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        x[tile] = RowPacks<T, 4>(a, tile, step * 4).Alternate(0);
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const OperandB w = SignedBytes<T>(slots[slot].at[r]);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) MultiplyAdd<T>(sums[tile].at[r], x[tile], w);
      }
    }
  }

  __device__ __forceinline__ static float Finish(const FewRowsArguments<T>& a, float sum,
                                                 int column) {
    return sum * static_cast<const float*>(a.scale)[column];
  }

  __device__ __forceinline__ static float Number(uint32_t word, int at) {
    return static_cast<float>(static_cast<int>(word >> (at * 8) & 255u) - 128);
  }
  __device__ __forceinline__ static WeightRange Range(const void* scale, int column, int /*k*/,
                                                      int /*groups*/) {
    return {static_cast<const float*>(scale)[column], 0.0f};
  }
};

// int4: a word is eight neighbouring k, low nibbles first; a chunk is a group of 128 k with a step
// and a minimum a column (bf16 [tiles, groups, 2, 64]).
template <typename T>
struct Int4Words {
  static constexpr int kValues = 8;
  static constexpr int kSlots = 6;  // the last two: steps and minima
  static constexpr int kXPack = 8;
  static_assert(kChunkSteps * 8 == kGroup);

  __device__ __forceinline__ static const void* Source(const FewRowsArguments<T>& a, int unit,
                                                       int chunk, int slot) {
    const int j = static_cast<int>(threadIdx.x) % 4;
    if (slot < 4) return WordsAt(a, unit, chunk * kChunkSteps + slot * 4 + j);
    const int groups = (a.steps + kChunkSteps - 1) / kChunkSteps;
    const int64_t row = (static_cast<int64_t>(unit / 2) * groups + chunk) * 2 + slot - 4;
    // Columns of D: 8j … 8j + 7 over the four products.
    return static_cast<const c10::BFloat16*>(a.scale) + row * kTileColumns +
           unit % 2 * kUnitColumns + j * 8;
  }

  template <int kRowTiles>
  __device__ __forceinline__ static void Multiply(const FewRowsArguments<T>& a, int chunk,
                                                  const Slot (&slots)[kSlots],
                                                  UnitSums (&sums)[kRowTiles]) {
    constexpr uint32_t kOnes = std::is_same_v<T, c10::BFloat16> ? 0x3f803f80u : 0x3c003c00u;
    UnitSums products[kRowTiles] = {};
    TileSums rows[kRowTiles] = {};  // Σ x, in every column
#pragma unroll
    for (int slot = 0; slot < 4; ++slot) {
      const int step = chunk * kChunkSteps + slot * 4 + static_cast<int>(threadIdx.x) % 4;
      OperandA low[kRowTiles];
      OperandA high[kRowTiles];
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        const RowPacks<T, 8> x(a, tile, step * 8);
        low[tile] = x.Alternate(0);
        high[tile] = x.Alternate(4);
        MultiplyAdd<T>(rows[tile], low[tile], {{kOnes, kOnes}});
        MultiplyAdd<T>(rows[tile], high[tile], {{kOnes, kOnes}});
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const OperandB first = LowNibbles<T>(slots[slot].at[r]);
        const OperandB second = LowNibbles<T>(slots[slot].at[r] >> 4);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) {
          MultiplyAdd<T>(products[tile].at[r], low[tile], first);
          MultiplyAdd<T>(products[tile].at[r], high[tile], second);
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = i % 2 * 4 + r;
          sums[tile].at[r].at[i] += Bf16At(slots[4], column) * products[tile].at[r].at[i] +
                                    Bf16At(slots[5], column) * rows[tile].at[i];
        }
      }
    }
  }

  __device__ __forceinline__ static float Finish(const FewRowsArguments<T>& /*a*/, float sum,
                                                 int /*column*/) {
    return sum;
  }

  __device__ __forceinline__ static float Number(uint32_t word, int at) {
    return static_cast<float>(word >> (at % 4 * 8 + at / 4 * 4) & 15u);
  }
  __device__ __forceinline__ static WeightRange Range(const void* scale, int column, int k,
                                                      int groups) {
    const int64_t row = static_cast<int64_t>(column / kTileColumns) * groups + k / kGroup;
    const auto* const range =
        static_cast<const c10::BFloat16*>(scale) + row * 2 * kTileColumns + column % kTileColumns;
    return {static_cast<float>(range[0]), static_cast<float>(range[kTileColumns])};
  }
};

}  // namespace idefics::IDEFICS_TARGET
