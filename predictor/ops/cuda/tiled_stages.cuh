// SPDX-License-Identifier: Apache-2.0
// The stages of linear_tiled.cuh: 64 values of k, of x in shared memory and of W in registers.
#pragma once

#include "predictor/ops/cuda/packed_words.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kTiledWarps = 8;
constexpr int kTiledThreads = kTiledWarps * 32;
constexpr int kStageK = 64;

// Rows of x in shared memory, kStageK values of k. The distance of two rows keeps the loads of a
// quarter or half of a warp in different banks.
template <typename T, int kRows, int kValues>
struct StagedX {
  static constexpr int kStride = kStageK + (kValues == 4 ? 16 : 32);
  alignas(16) T at[kRows][kStride];
};

// Starts the copies of a stage, zeros beyond the rows and k.
template <typename T, int kRows, int kValues>
__device__ __forceinline__ void FetchX(const SkinnyArguments<T>& a, int stage,
                                       StagedX<T, kRows, kValues>& to) {
  constexpr int kPacks = kStageK / kPack;
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPacks; i += kTiledThreads) {
    const int row = i / kPacks;
    const int k = stage * kStageK + i % kPacks * kPack;
    auto* const place = reinterpret_cast<Vec16B*>(&to.at[row][i % kPacks * kPack]);
    if (row < a.rows && k < a.w.k) {
      CopyAsync(place, a.x + static_cast<int64_t>(row) * a.w.k + k);
    } else {
      *place = Vec16B{};
    }
  }
}

// The lane's words of a stage.
template <typename Packed>
struct StageWords {
  static constexpr int kSteps = kStageK / Packed::kValues;
  Vec16B vectors[kSteps / 4];

  __device__ __forceinline__ void Load(const PackedWords& w, int half_tile, int stage) {
#pragma unroll
    for (int vector = 0; vector < kSteps / 4; ++vector) {
      const int step = stage * kSteps + vector * 4 + static_cast<int>(threadIdx.x) % 4;
      const void* const from = WordsAt(w, half_tile, step);
      vectors[vector] = from == nullptr ? Vec16B{} : *static_cast<const Vec16B*>(from);
    }
  }
};

// Adds a stage's products to the sums of the warp's 32 columns.
template <typename Packed, typename T, int kRowTiles>
__device__ __forceinline__ void MultiplyStage(
    const StagedX<T, kRowTiles * kTileRows, Packed::kValues>& x, const StageWords<Packed>& words,
    const typename Packed::StageRange& range, HalfTileSums (&sums)[kRowTiles]) {
  constexpr int kParts = Packed::kValues / 4;  // products of four values of k in each lane
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int vector = 0; vector < StageWords<Packed>::kSteps / 4; ++vector) {
    OperandB w[kParts][4];
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        w[part][r] = Packed::StagePairs(words.vectors[vector].at[r], part, range, r);
      }
    }
    const int first = (vector * 4 + lane % 4) * Packed::kValues;
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      const int row = tile * kTileRows + lane / 4;
      const RowPacks<T, Packed::kValues> rows(&x.at[row][first], &x.at[row + 8][first]);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const OperandA a = rows.Alternate(part * 4);
#pragma unroll
        for (int r = 0; r < 4; ++r) MultiplyAdd<T>(sums[tile].at[r], a, w[part][r]);
      }
    }
  }
}

}  // namespace idefics::IDEFICS_TARGET
