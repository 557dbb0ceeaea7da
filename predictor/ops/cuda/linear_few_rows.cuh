// SPDX-License-Identifier: Apache-2.0
// y = x Wᵀ for few rows, bound by reading W once. A block computes 32 columns; its warps share k
// among them, each keeps two chunks of words on their way to shared memory, and the warps' sums are
// added in a fixed order: a row's bits depend neither on timing nor on the other rows.
#pragma once

#include "predictor/ops/cuda/linear_chunk.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kLinearWarps = 8;
constexpr int kLinearThreads = kLinearWarps * 32;
constexpr int kStages = 2;
constexpr int kMaxFewRows = 2 * kTileRows;

// A lane reads only what it has copied itself.
template <int kSlots>
struct CopyMemory {
  Slot at[kLinearWarps][kStages][kSlots][32];
};

// Starts the copies of a chunk, if there is such a chunk.
template <typename Words, typename T>
__device__ __forceinline__ void FetchChunk(const FewRowsArguments<T>& a, int chunk, int stage,
                                           CopyMemory<Words::kSlots>& memory) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (chunk * kChunkSteps < a.w.steps) {
#pragma unroll
    for (int slot = 0; slot < Words::kSlots; ++slot) {
      Slot* const to = &memory.at[warp][stage][slot][lane];
      const void* const from = Words::Source(a.w, static_cast<int>(blockIdx.x), chunk, slot);
      if (from != nullptr) {
        CopyLater(to, from);
      } else {
        *to = Slot{};
      }
    }
  }
  CommitCopies();
}

// Adds the warps' sums of one tile of rows and writes y.
template <typename Words, typename T>
__device__ __forceinline__ void StoreUnit(const FewRowsArguments<T>& a, const UnitSums& sums,
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
    const int column =
        static_cast<int>(blockIdx.x) * kUnitColumns + (lane % 4 * 2 + place % 2) * 4 + place / 4;
    if (row < a.rows && column < a.n) {
      a.out[static_cast<int64_t>(row) * a.n + column] =
          static_cast<T>(Words::Finish(a.w, sum, column));
    }
  }
}

template <typename Words, typename T, int kRowTiles>
__global__ void __launch_bounds__(kLinearThreads, kRowTiles == 1 ? 2 : 1)
    FewRowsKernel(FewRowsArguments<T> a) {
  __shared__ CopyMemory<Words::kSlots> memory;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  UnitSums sums[kRowTiles] = {};
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage) {
    FetchChunk<Words>(a, warp + stage * kLinearWarps, stage, memory);
  }
  int stage = 0;
  for (int chunk = warp; chunk * kChunkSteps < a.w.steps; chunk += kLinearWarps) {
    WaitForCopies<kStages - 1>();
    Slot slots[Words::kSlots];
#pragma unroll
    for (int slot = 0; slot < Words::kSlots; ++slot) {
      slots[slot] = memory.at[warp][stage][slot][threadIdx.x % 32];
    }
    __syncwarp();  // read before the next copy overwrites
    FetchChunk<Words>(a, chunk + kStages * kLinearWarps, stage, memory);
    Words::template Multiply<kRowTiles>(a, chunk, slots, sums);
    stage = (stage + 1) % kStages;
  }
  static_assert(sizeof(memory) >= kLinearWarps * 16 * 32 * sizeof(float));
  auto* const parts = reinterpret_cast<float(*)[16][32]>(&memory);
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
    __syncthreads();  // nobody reads the memory's last contents any more
    StoreUnit<Words>(a, sums[tile], tile, parts);
  }
}

// REQUIRES: 1 <= rows <= kMaxFewRows; w and scale are aligned to 16 bytes.
template <typename Words, typename T>
void LaunchFewRows(FewRowsArguments<T> a, Stream stream) {
  a.packed = CanPack<Words::kXPack>(a.x, a.w.k);
  const dim3 grid{static_cast<unsigned>((a.n + kUnitColumns - 1) / kUnitColumns)};
  if (a.rows <= kTileRows) {
    Launch(FewRowsKernel<Words, T, 1>, grid, kLinearThreads, stream, a);
  } else {
    Launch(FewRowsKernel<Words, T, 2>, grid, kLinearThreads, stream, a);
  }
}

}  // namespace idefics::IDEFICS_TARGET
