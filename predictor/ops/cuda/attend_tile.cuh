// SPDX-License-Identifier: Apache-2.0
// Attention of long rows (prompt pieces): one block per (tile of 32 tokens of one row, head). The
// block walks over the keys in tiles of 32 in shared memory with an online softmax
// (FlashAttention-2, arXiv 2307.08691). A thread owns 2 queries × 4 keys of the scores and the same
// 2 queries × (4 numbers of every 32) of the output, so that the softmax state stays in registers.
#pragma once

#include "predictor/ops/cuda/attend_token.cuh"

namespace idefics::IDEFICS_TARGET {

constexpr int kTile = 32;        // queries, and keys
constexpr int kTileLanes = 8;    // threads that share two queries
constexpr int kTilePerLane = 4;  // keys of a thread: lane, lane + 8, …
constexpr int kMaxTileDim = 128;

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
template <typename T, int kQuads>
__device__ __forceinline__ void LoadTile(Quad (&rows)[kTile][kQuads], const T* from, int64_t stride,
                                         int count, const AttendArguments<T>& a, float scale) {
  constexpr int kPacks = (kQuads - 1) / 2;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kPacks; i += kAttendThreads) {
    const int row = i / kPacks;
    const int first = i % kPacks * kPack;
    const Pack<T> pack = LoadPack(from + row * stride, first, row < count ? a.dim : 0, a.packed);
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      rows[row][first / 4 + j / 4].at[j % 4] = static_cast<float>(pack.at[j]) * scale;
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

// Tiles of row r are numbered from row_starts[r] / kTile + r: enough room for each row's tiles, and
// the grid's size needs no look at the row starts, which lie on the device.
template <typename T, int kPanels>
__global__ void __launch_bounds__(kAttendThreads) AttendTileKernel(AttendArguments<T> a) {
  __shared__ TileMemory<kPanels> memory;
  const auto first_tile = [&](int row) { return a.ragged.row_starts[row] / kTile + row; };
  const int index = static_cast<int>(blockIdx.x);
  const int row_index = FindRow(index, a.ragged.rows, first_tile);
  const RowSpan row = SpanOf(a.ragged, row_index);
  const int query = (index - first_tile(row_index)) * kTile;  // in the row
  if (query >= row.count || row.count <= kShortRow) return;
  const int count = row.count - query < kTile ? row.count - query : kTile;
  const int visible = row.before + query + count;  // keys that the tile's last query sees
  const int64_t width = static_cast<int64_t>(a.heads) * a.dim;
  const int64_t head = static_cast<int64_t>(blockIdx.y) * a.dim;
  const int64_t token_origin = (row.first + query) * width + head;
  LoadTile(memory.queries, a.q + token_origin, width, count, a,
           1.0f / sqrtf(static_cast<float>(a.dim)));
  TileState<kPanels> state;
  for (int base = 0; base < visible; base += kTile) {
    const int64_t key_origin = (row.kv_start + base) * width + head;
    const int keys = visible - base;
    __syncthreads();  // the last tile's values have been read
    LoadTile(memory.keys, a.k_cache + key_origin, width, keys, a, 1.0f);
    __syncthreads();
    float scores[2][kTilePerLane] = {};
    TileScores(memory, scores);
    TileSoftmax(scores, row.before + query + 1 - base, memory, state);
    __syncthreads();  // the keys have been read, the weights written
    LoadTile(memory.keys, a.v_cache + key_origin, width, keys, a, 1.0f);
    __syncthreads();
    TileMix(memory, state);
  }
  StoreTile<T>(state, a.out + token_origin, width, count, a.dim);
}

// Attends the rows of more than kShortRow tokens. REQUIRES: dim <= kMaxTileDim.
template <typename T>
void LaunchAttendTile(const AttendArguments<T>& a, Stream stream) {
  const dim3 grid{static_cast<unsigned>(a.ragged.tokens / kTile + a.ragged.rows),
                  static_cast<unsigned>(a.heads)};
  if (a.dim <= 32) {
    Launch(AttendTileKernel<T, 1>, grid, kAttendThreads, stream, a);
  } else if (a.dim <= 64) {
    Launch(AttendTileKernel<T, 2>, grid, kAttendThreads, stream, a);
  } else if (a.dim <= 96) {
    Launch(AttendTileKernel<T, 3>, grid, kAttendThreads, stream, a);
  } else {
    Launch(AttendTileKernel<T, 4>, grid, kAttendThreads, stream, a);
  }
}

}  // namespace idefics::IDEFICS_TARGET
