// SPDX-License-Identifier: Apache-2.0
// y = x Wᵀ for more rows than linear_skinny.cuh takes, where W is quantized: W is read once, as it
// is stored, and becomes numbers of x's type in registers. A block computes 256 columns of up to
// 128 rows, each warp 32 of them; the block's rows of x pass through shared memory, 64 values of k
// at a time, the next ones on their way. Where there are few columns, blocks divide k: a row's bits
// depend neither on timing nor on the other rows.
#pragma once

#include "predictor/ops/cuda/k_splits.h"
#include "predictor/ops/cuda/sum_parts.cuh"
#include "predictor/ops/cuda/tiled_stages.cuh"

namespace idefics::IDEFICS_TARGET {

static_assert(kTiledColumns == kTiledWarps * kHalfTileColumns);
constexpr int kMaxTiledRows =
    128;  // of a block: beyond, its arithmetic takes longer than unpacking W once

// Writes the sums of one tile of rows, or this block's part of them.
template <typename Packed, typename T>
__device__ __forceinline__ void StoreTiled(const SplitProduct<T>& a, const HalfTileSums& sums,
                                           int first_row, int half_tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = first_row + lane / 4 + i / 2 * 8;
    const int first = half_tile * kHalfTileColumns + (lane % 4 * 2 + i % 2) * 4;
    if (row >= a.of.rows) continue;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int column = first + r;
      if (column >= a.of.n) continue;
      StoreSum<Packed>(a, static_cast<int>(blockIdx.y), row, column, sums.at[r].at[i]);
    }
  }
}

template <typename Packed, typename T, int kRowTiles>
__global__ void __launch_bounds__(kTiledThreads, 1) TiledKernel(SplitProduct<T> a) {
  __shared__ StagedX<T, kRowTiles * kTileRows, Packed::kValues> x[2];
  const int half_tile =
      static_cast<int>(blockIdx.x) * kTiledWarps + static_cast<int>(threadIdx.x) / 32;
  const bool has_columns = half_tile * kHalfTileColumns < a.of.n;
  // Whole groups of k for each block.
  const int stages = (a.of.w.k + kStageK - 1) / kStageK;
  constexpr int kGroupStages = static_cast<int>(kGroup) / kStageK;
  const int groups = (stages + kGroupStages - 1) / kGroupStages;
  const int share = (groups + a.splits - 1) / a.splits * kGroupStages;
  const int begin = static_cast<int>(blockIdx.y) * share;
  const int end = begin + share < stages ? begin + share : stages;

  HalfTileSums sums[kRowTiles] = {};
  StageWords<Packed> words;
  if (begin < end) {
    FetchX(a.of, begin, x[0]);
    if (has_columns) words.Load(a.of.w, half_tile, begin);
  }
  CommitAsyncCopies();
  for (int stage = begin; stage < end; ++stage) {
    const int buffer = (stage - begin) % 2;
    if (stage + 1 < end) FetchX(a.of, stage + 1, x[1 - buffer]);
    CommitAsyncCopies();
    WaitForAsyncCopies<1>();
    __syncthreads();  // the stage's copies, which all threads made, are there
    if (has_columns) {
      const typename Packed::StageRange range(a.of.w, half_tile, stage * kStageK);
      StageWords<Packed> next;
      if (stage + 1 < end) next.Load(a.of.w, half_tile, stage + 1);
      MultiplyStage<Packed, T, kRowTiles>(x[buffer], words, range, sums);
      words = next;
    }
    __syncthreads();  // all have read the buffer that is filled next
  }
  if (!has_columns) return;
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
    StoreTiled<Packed>(a, sums[tile], tile * kTileRows, half_tile);
  }
}

// REQUIRES: rows <= kMaxTiledRows; x, w and scale are aligned to 16 bytes, k is a multiple of 8;
// parts where splits > 1.
template <typename Packed, typename T>
void LaunchTiled(const SplitProduct<T>& a, Stream stream) {
  const dim3 grid{static_cast<unsigned>((a.of.n + kTiledColumns - 1) / kTiledColumns),
                  static_cast<unsigned>(a.splits)};
  if (a.of.rows <= 4 * kTileRows) {
    Launch(TiledKernel<Packed, T, 4>, grid, kTiledThreads, stream, a);
  } else {
    Launch(TiledKernel<Packed, T, 8>, grid, kTiledThreads, stream, a);
  }
  LaunchSumParts<Packed>(a, stream);
}

}  // namespace idefics::IDEFICS_TARGET
