// SPDX-License-Identifier: Apache-2.0
// The steps of attention by tiles of 32 queries and 32 keys (attend_tile.cuh). A thread owns 2
// queries × 4 keys of the scores and the same 2 queries × (4 numbers of every 32) of the output, so
// that the softmax state stays in registers.
#pragma once

#include "predictor/ops/cuda/ragged.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kTile = 32;        // queries, and keys
constexpr int kTileLanes = 8;    // threads that share two queries
constexpr int kTilePerLane = 4;  // keys of a thread: lane, lane + 8, …

using Quad = Pack<float, 4>;

// Shared memory of a block; rows are padded by one Quad against bank conflicts.
template <int kPanels>
struct TileMemory {
  static constexpr int kWidth = kPanels * 32;
  Quad queries[kTile][kWidth / 4 + 1];
  Quad keys[kTile][kWidth / 4 + 1];  // then the values
  float weights[kTile][kTile + 1];
};

// The running softmax of a thread's two queries.
template <int kPanels>
struct TileState {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0f, 0.0f};  // over this thread's keys only
  Quad sums[2][kPanels] = {};
};

// Fills `rows` with kTile rows of `dim` numbers times scale, zeros beyond `count` and `dim`.
// slot_of(row): which of `from` row < count is.
template <int kQuads, typename Key, typename SlotOf>
__device__ __forceinline__ void LoadTile(Quad (&rows)[kTile][kQuads], const HeadRows<Key>& from,
                                         const SlotOf& slot_of, int count, RowShape shape,
                                         float scale) {
  constexpr int kPacks = (kQuads - 1) / 2;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kPacks; i += kAttendThreads) {
    const int row = i / kPacks;
    const int first = i % kPacks * kPack;
    const int64_t slot = slot_of(row);
    const auto pack = LoadPack(from.At(slot), first, row < count ? shape.dim : 0, shape.packed);
    const float factor = row < count ? from.ScaleAt(slot) * scale : 0.0f;
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      rows[row][first / 4 + j / 4].at[j % 4] = static_cast<float>(pack.at[j]) * factor;
    }
  }
}

// scores[q][k] of the thread's 2 queries and 4 keys.
template <int kPanels>
__device__ __forceinline__ void TileScores(const TileMemory<kPanels>& memory,
                                           float (&scores)[2][kTilePerLane]) {
  const int lane = static_cast<int>(threadIdx.x) % kTileLanes;
  const int query = static_cast<int>(threadIdx.x) / kTileLanes * 2;
  for (int c = 0; c < kPanels * 8; ++c) {
    const Quad q[2] = {memory.queries[query][c], memory.queries[query + 1][c]};
#pragma unroll
    for (int k = 0; k < kTilePerLane; ++k) {
      const Quad key = memory.keys[lane + k * kTileLanes][c];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[0][k] += q[0].at[i] * key.at[i];
        scores[1][k] += q[1].at[i] * key.at[i];
      }
    }
  }
}

// Turns scores into weights in shared memory and rescales the state. `seen`: the number of keys of
// this tile that query 0 of the tile sees; each following query sees one more.
template <int kPanels>
__device__ __forceinline__ void TileSoftmax(float (&scores)[2][kTilePerLane], int seen,
                                            TileMemory<kPanels>& memory,
                                            TileState<kPanels>& state) {
  const int lane = static_cast<int>(threadIdx.x) % kTileLanes;
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    const int query = static_cast<int>(threadIdx.x) / kTileLanes * 2 + q;
    float largest = state.largest[q];
#pragma unroll
    for (int k = 0; k < kTilePerLane; ++k) {
      if (lane + k * kTileLanes >= seen + query) scores[q][k] = -INFINITY;
      largest = fmaxf(largest, scores[q][k]);
    }
    largest = GroupMax<kTileLanes>(largest);  // finite: every query sees key 0 of the first tile
    const float keep = expf(state.largest[q] - largest);
    state.largest[q] = largest;
    state.total[q] *= keep;
#pragma unroll
    for (int k = 0; k < kTilePerLane; ++k) {
      const float weight = expf(scores[q][k] - largest);
      state.total[q] += weight;
      memory.weights[query][lane + k * kTileLanes] = weight;
    }
#pragma unroll
    for (int p = 0; p < kPanels; ++p) {
#pragma unroll
      for (int i = 0; i < 4; ++i) state.sums[q][p].at[i] *= keep;
    }
  }
}

// Adds weights · values of the tile to the state.
template <int kPanels>
__device__ __forceinline__ void TileMix(const TileMemory<kPanels>& memory,
                                        TileState<kPanels>& state) {
  const int lane = static_cast<int>(threadIdx.x) % kTileLanes;
  const int query = static_cast<int>(threadIdx.x) / kTileLanes * 2;
  for (int k = 0; k < kTile; ++k) {
    const float weights[2] = {memory.weights[query][k], memory.weights[query + 1][k]};
#pragma unroll
    for (int p = 0; p < kPanels; ++p) {
      const Quad value = memory.keys[k][p * kTileLanes + lane];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        state.sums[0][p].at[i] += weights[0] * value.at[i];
        state.sums[1][p].at[i] += weights[1] * value.at[i];
      }
    }
  }
}

// Writes the thread's numbers of the queries below `count` to the rows at `out`.
template <typename T, int kPanels>
__device__ __forceinline__ void StoreTile(const TileState<kPanels>& state, T* out, int64_t stride,
                                          int count, int dim) {
  const int lane = static_cast<int>(threadIdx.x) % kTileLanes;
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    const float total = GroupSum<kTileLanes>(state.total[q]);
    const int query = static_cast<int>(threadIdx.x) / kTileLanes * 2 + q;
    if (query >= count) continue;
#pragma unroll
    for (int p = 0; p < kPanels; ++p) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = p * 32 + lane * 4 + i;
        if (at < dim) {
          out[query * stride + at] = static_cast<T>(state.sums[q][p].at[i] / total);
        }
      }
    }
  }
}

}  // namespace idefics::IDEFICS_TARGET
