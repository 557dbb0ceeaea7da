// SPDX-License-Identifier: Apache-2.0
// y = x Wᵀ for up to kMaxSkinnyRows rows, limited by the time that reading W takes. A block
// computes 32 columns, or where those are few a part of k for them. Its warps divide k among them,
// each has two or three chunks of words on their way to shared memory, and the warps' sums are
// added in a fixed order: a row's bits depend neither on timing nor on the other rows.
#pragma once

#include "predictor/ops/cuda/k_splits.h"
#include "predictor/ops/cuda/sum_parts.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kLinearWarps = 8;
constexpr int kLinearThreads = kLinearWarps * 32;
// Chunks on their way: as many as the 48 KB that a block has without asking hold.
template <int kVectors>
constexpr int kStagesOf = 48 * 1024 /
                          (kLinearWarps * kVectors * 32 * static_cast<int>(sizeof(Vec16B)));
constexpr int kMaxSkinnyRows = 2 * kTileRows;

// Shared memory for the copies. A lane reads only what it has copied itself.
template <int kVectors>
struct CopyMemory {
  Vec16B at[kLinearWarps][kStagesOf<kVectors>][kVectors][32];
};

__host__ __device__ __forceinline__ int ChunksOf(const PackedWords& w) {
  return (w.steps + kChunkSteps - 1) / kChunkSteps;
}

// Starts the copies of a chunk, if it is before `end`.
template <typename Packed, typename T>
__device__ __forceinline__ void FetchChunk(const SkinnyArguments<T>& a, int chunk, int end,
                                           int stage, CopyMemory<Packed::kVectors>& memory) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (chunk < end) {
#pragma unroll
    for (int vector = 0; vector < Packed::kVectors; ++vector) {
      Vec16B* const to = &memory.at[warp][stage][vector][lane];
      const void* const from = Packed::Source(a.w, static_cast<int>(blockIdx.x), chunk, vector);
      if (from != nullptr) {
        CopyAsync(to, from);
      } else {
        *to = Vec16B{};
      }
    }
  }
  CommitAsyncCopies();
}

// Adds the warps' sums of one tile of rows and writes y.
template <typename Packed, typename T>
__device__ __forceinline__ void StoreHalfTile(const SplitProduct<T>& a, const HalfTileSums& sums,
                                              int row_tile, float (*parts)[16][32]) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int at = 0; at < 16; ++at) {
    parts[warp][at][threadIdx.x % 32] = sums.at[at / 4].at[at % 4];
  }
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < 16 * 32; at += kLinearThreads) {
    const int place = at / 32;  // product r = place / 4, number i = place % 4 of its D
    const int lane = at % 32;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kLinearWarps; ++w) sum += parts[w][place][lane];
    const int row = row_tile * kTileRows + lane / 4 + place % 4 / 2 * 8;
    const int column = static_cast<int>(blockIdx.x) * kHalfTileColumns +
                       Packed::ColumnOf(place / 4, lane % 4 * 2 + place % 2);
    if (row < a.of.rows && column < a.of.n) {
      StoreSum<Packed>(a, static_cast<int>(blockIdx.y), row, column, sum);
    }
  }
}

template <typename Packed, typename T, int kRowTiles>
__global__ void __launch_bounds__(kLinearThreads, kRowTiles == 1 ? 2 : 1)
    SkinnyKernel(SplitProduct<T> a) {
  constexpr int kStages = kStagesOf<Packed::kVectors>;
  __shared__ CopyMemory<Packed::kVectors> memory;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int chunks = ChunksOf(a.of.w);
  const int share = (chunks + a.splits - 1) / a.splits;
  const int begin = static_cast<int>(blockIdx.y) * share + warp;
  const int next = (static_cast<int>(blockIdx.y) + 1) * share;
  const int end = next < chunks ? next : chunks;
  HalfTileSums sums[kRowTiles] = {};
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage) {
    FetchChunk<Packed>(a.of, begin + stage * kLinearWarps, end, stage, memory);
  }
  int stage = 0;
  for (int chunk = begin; chunk < end; chunk += kLinearWarps) {
    WaitForAsyncCopies<kStages - 1>();
    Vec16B vectors[Packed::kVectors];
#pragma unroll
    for (int vector = 0; vector < Packed::kVectors; ++vector) {
      vectors[vector] = memory.at[warp][stage][vector][threadIdx.x % 32];
    }
    __syncwarp();  // read before the next copy overwrites
    FetchChunk<Packed>(a.of, chunk + kStages * kLinearWarps, end, stage, memory);
    Packed::template Multiply<kRowTiles>(a.of, chunk, vectors, sums);
    stage = (stage + 1) % kStages;
  }
  static_assert(sizeof(memory) >= kLinearWarps * 16 * 32 * sizeof(float));
  auto* const parts = reinterpret_cast<float(*)[16][32]>(&memory);
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
    __syncthreads();  // all threads have read the memory's previous contents
    StoreHalfTile<Packed>(a, sums[tile], tile, parts);
  }
}

// Blocks that should divide k.
template <typename Packed>
int SkinnySplits(const PackedWords& w, int n, int processors) {
  const int64_t columns = (n + kHalfTileColumns - 1) / kHalfTileColumns;
  const int64_t bytes =
      columns * kHalfTileColumns * w.steps * static_cast<int64_t>(sizeof(uint32_t));
  return ChooseSkinnySplits({columns, bytes, ChunksOf(w), Packed::kBusyBlocks}, kLinearWarps,
                            processors);
}

// REQUIRES: 1 <= rows <= kMaxSkinnyRows; w and scale are aligned to 16 bytes; parts where
// splits > 1.
template <typename Packed, typename T>
void LaunchSkinny(SplitProduct<T> a, Stream stream) {
  a.of.packed = CanPack<Packed::kXPack>(a.of.x, a.of.w.k);
  const dim3 grid{static_cast<unsigned>((a.of.n + kHalfTileColumns - 1) / kHalfTileColumns),
                  static_cast<unsigned>(a.splits)};
  if (a.of.rows <= kTileRows) {
    Launch(SkinnyKernel<Packed, T, 1>, grid, kLinearThreads, stream, a);
  } else {
    Launch(SkinnyKernel<Packed, T, 2>, grid, kLinearThreads, stream, a);
  }
  LaunchSumParts<Packed>(a, stream);
}

}  // namespace idefics::IDEFICS_TARGET
