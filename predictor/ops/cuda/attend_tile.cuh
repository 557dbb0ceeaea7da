// SPDX-License-Identifier: Apache-2.0
// Attention of long rows (prompt pieces) in f32; attend_tensor.cuh does it in 16 bit. One block per
// (tile of 32 tokens of one row, head). The block walks over the keys in tiles of 32 in shared
// memory with an online softmax (FlashAttention-2, arXiv 2307.08691).
#pragma once

#include "predictor/ops/cuda/attend_token.cuh"
#include "predictor/ops/cuda/tile_steps.cuh"

namespace idefics::IDEFICS_TARGET {

template <typename T, typename Key, int kPanels>
__global__ void __launch_bounds__(kAttendThreads) AttendTileKernel(AttendArguments<T, Key> a) {
  __shared__ TileMemory<kPanels> memory;
  const RowSpan tile = TileOfBlock<kTile>(a.ragged);
  if (tile.count < 1) return;
  const int visible = tile.before + tile.count;  // keys that the tile's last query sees
  const int64_t width = static_cast<int64_t>(a.heads) * a.dim;
  const int64_t head = static_cast<int64_t>(blockIdx.y) * a.dim;
  const RowShape shape{a.dim, a.packed};
  const int64_t token_origin = tile.first * width + head;
  const HeadRows<T> queries{a.q + token_origin, width};
  const float scale = 1.0f / sqrtf(static_cast<float>(a.dim));
  LoadTile(
      memory.queries, queries, [](int at) { return at; }, tile.count, shape, scale);
  const HeadRows<Key> k = RowsOfHead(a.k_cache, static_cast<int>(blockIdx.y), a.heads, a.dim);
  const HeadRows<Key> v = RowsOfHead(a.v_cache, static_cast<int>(blockIdx.y), a.heads, a.dim);
  TileState<kPanels> state;
  for (int base = 0; base < visible; base += kTile) {
    const auto slot_of = [&](int at) { return tile.slots.At(base + at); };
    const int keys = visible - base;
    __syncthreads();  // the previous tile's values have been read
    LoadTile(memory.keys, k, slot_of, keys, shape, 1.0f);
    __syncthreads();
    float scores[2][kTilePerLane] = {};
    TileScores(memory, scores);
    TileSoftmax(scores, tile.before + 1 - base, memory, state);
    __syncthreads();  // the keys have been read, the weights written
    LoadTile(memory.keys, v, slot_of, keys, shape, 1.0f);
    __syncthreads();
    TileMix(memory, state);
  }
  StoreTile<T>(state, a.out + token_origin, width, tile.count, a.dim);
}

}  // namespace idefics::IDEFICS_TARGET
