// SPDX-License-Identifier: Apache-2.0
// Attention of long rows (prompt pieces) in f32; attend_tensor.cuh does it in 16 bit. One block per
// (tile of 32 tokens of one row, head). The block walks over the keys in tiles of 32 in shared
// memory with an online softmax (FlashAttention-2, arXiv 2307.08691).
#pragma once

#include "predictor/ops/cuda/attend_token.cuh"
#include "predictor/ops/cuda/tile_steps.cuh"

namespace idefics::IDEFICS_TARGET {

// Tiles of row r are numbered from row_starts[r] / kTile + r. That leaves room for each row's
// tiles, and the host can size the grid without reading the row starts, which are on the device.
template <typename T, typename Key, int kPanels>
__global__ void __launch_bounds__(kAttendThreads) AttendTileKernel(AttendArguments<T, Key> a) {
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
  const RowShape shape{a.dim, a.packed};
  const int64_t token_origin = (row.first + query) * width + head;
  const HeadRows<T> queries{a.q + token_origin, width};
  const float scale = 1.0f / sqrtf(static_cast<float>(a.dim));
  LoadTile(
      memory.queries, queries, [](int at) { return at; }, count, shape, scale);
  const HeadRows<Key> k = RowsOfHead(a.k_cache, static_cast<int>(blockIdx.y), a.heads, a.dim);
  const HeadRows<Key> v = RowsOfHead(a.v_cache, static_cast<int>(blockIdx.y), a.heads, a.dim);
  TileState<kPanels> state;
  for (int base = 0; base < visible; base += kTile) {
    const auto slot_of = [&](int at) { return row.slots.At(base + at); };
    const int keys = visible - base;
    __syncthreads();  // the previous tile's values have been read
    LoadTile(memory.keys, k, slot_of, keys, shape, 1.0f);
    __syncthreads();
    float scores[2][kTilePerLane] = {};
    TileScores(memory, scores);
    TileSoftmax(scores, row.before + query + 1 - base, memory, state);
    __syncthreads();  // the keys have been read, the weights written
    LoadTile(memory.keys, v, slot_of, keys, shape, 1.0f);
    __syncthreads();
    TileMix(memory, state);
  }
  StoreTile<T>(state, a.out + token_origin, width, count, a.dim);
}

// Attends the rows of more than kShortRow tokens. REQUIRES: dim <= kMaxTileDim.
template <typename T, typename Key>
void LaunchAttendTile(const AttendArguments<T, Key>& a, Stream stream) {
  const dim3 grid{static_cast<unsigned>(a.ragged.tokens / kTile + a.ragged.rows),
                  static_cast<unsigned>(a.heads)};
  ForPanels(a.dim, [&](auto panels) {
    Launch(AttendTileKernel<T, Key, panels.value>, grid, kAttendThreads, stream, a);
  });
}

}  // namespace idefics::IDEFICS_TARGET
