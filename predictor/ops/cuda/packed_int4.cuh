// SPDX-License-Identifier: Apache-2.0
// Words of eight int4 of neighbouring k, low nibbles first. A chunk is a group of 128 k, for which
// each column has a step and a minimum (bf16 [tiles, groups, 2, 64]).
#pragma once

#include "predictor/ops/cuda/packed_words.cuh"

namespace idefics::IDEFICS_TARGET {

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

// Number `at` of eight bf16.
__device__ __forceinline__ float Bf16At(const Vec16B& vector, int at) {
  const uint32_t word = vector.at[at / 2];
  const uint32_t bits = at % 2 == 0 ? word << 16 : word & 0xffff0000u;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

template <typename T>
struct PackedInt4 : TiledWords {
  static constexpr int kValues = 8;
  static constexpr int kVectors = 6;  // the last two hold steps and minima
  static constexpr int kXPack = 8;
  static constexpr double kBusyBlocks = 1.5;  // unpacking takes nearly all instructions
  static_assert(kChunkSteps * 8 == kGroup);

  __device__ __forceinline__ static int Groups(const PackedWords& w) {
    return (w.steps + kChunkSteps - 1) / kChunkSteps;
  }

  __device__ __forceinline__ static const void* Source(const PackedWords& w, int half_tile,
                                                       int chunk, int vector) {
    const int j = static_cast<int>(threadIdx.x) % 4;
    if (vector < 4) return WordsAt(w, half_tile, chunk * kChunkSteps + vector * 4 + j);
    const int64_t row = (static_cast<int64_t>(half_tile / 2) * Groups(w) + chunk) * 2 + vector - 4;
    // Columns of D: 8j … 8j + 7 over the four products.
    return static_cast<const c10::BFloat16*>(w.scale) + row * kTileColumns +
           half_tile % 2 * kHalfTileColumns + j * 8;
  }

  template <int kRowTiles>
  __device__ __forceinline__ static void Multiply(const SkinnyArguments<T>& a, int chunk,
                                                  const Vec16B (&vectors)[kVectors],
                                                  HalfTileSums (&sums)[kRowTiles]) {
    constexpr uint32_t kOnes = std::is_same_v<T, c10::BFloat16> ? 0x3f803f80u : 0x3c003c00u;
    HalfTileSums products[kRowTiles] = {};
    TileSums rows[kRowTiles] = {};  // Σ x, in every column
#pragma unroll
    for (int vector = 0; vector < 4; ++vector) {
      const int step = chunk * kChunkSteps + vector * 4 + static_cast<int>(threadIdx.x) % 4;
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
        const OperandB first = LowNibbles<T>(vectors[vector].at[r]);
        const OperandB second = LowNibbles<T>(vectors[vector].at[r] >> 4);
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
          sums[tile].at[r].at[i] += Bf16At(vectors[4], column) * products[tile].at[r].at[i] +
                                    Bf16At(vectors[5], column) * rows[tile].at[i];
        }
      }
    }
  }

  __device__ __forceinline__ static float Finish(const PackedWords& /*w*/, float sum,
                                                 int /*column*/) {
    return sum;
  }

  static constexpr bool kTiled = sizeof(T) == 2;  // linear_tiled.cuh takes it

  // Of the lane's four columns and the group of k: step and minimum, both halves alike.
  struct StageRange {
    uint32_t step[4];
    uint32_t minimum[4];

    __device__ __forceinline__ StageRange(const PackedWords& w, int half_tile, int k) {
      const int64_t row =
          (static_cast<int64_t>(half_tile / 2) * Groups(w) + k / static_cast<int>(kGroup)) * 2;
      const auto* const from = static_cast<const c10::BFloat16*>(w.scale) + row * kTileColumns +
                               half_tile % 2 * kHalfTileColumns + threadIdx.x % 32 / 4 * 4;
      const auto steps = *reinterpret_cast<const Pack<c10::BFloat16, 4>*>(from);
      const auto minima = *reinterpret_cast<const Pack<c10::BFloat16, 4>*>(from + kTileColumns);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        step[r] = Twice(static_cast<T>(static_cast<float>(steps.at[r])));
        minimum[r] = Twice(static_cast<T>(static_cast<float>(minima.at[r])));
      }
    }

    __device__ __forceinline__ static uint32_t Twice(T value) {
      uint16_t bits;
      memcpy(&bits, &value, sizeof(bits));
      return bits * 0x10001u;
    }
  };

  // W itself, rounded once: values 0 … 3 or 4 … 7 of a word.
  __device__ __forceinline__ static OperandB StagePairs(uint32_t word, int part,
                                                        const StageRange& range, int r) {
    OperandB w = LowNibbles<T>(word >> (part * 4));
#pragma unroll
    for (uint32_t& pair : w.pairs) {
      pair = MultiplyAddPair<T>(pair, range.step[r], range.minimum[r]);
    }
    return w;
  }

  __device__ __forceinline__ static float ValueAt(uint32_t word, int at) {
    return static_cast<float>(word >> (at % 4 * 8 + at / 4 * 4) & 15u);
  }
  __device__ __forceinline__ static WeightRange Range(const PackedWords& w, int column, int k) {
    const int64_t row = static_cast<int64_t>(column / kTileColumns) * Groups(w) + k / kGroup;
    const auto* const range =
        static_cast<const c10::BFloat16*>(w.scale) + row * 2 * kTileColumns + column % kTileColumns;
    return {static_cast<float>(range[0]), static_cast<float>(range[kTileColumns])};
  }
};

}  // namespace idefics::IDEFICS_TARGET
