// SPDX-License-Identifier: Apache-2.0
// Attention of long rows (prompt pieces) in 16 bit by tensor cores: one block per (tile of 64
// tokens of one row, head), which walks over the row's keys.
#pragma once

#include "predictor/ops/cuda/attend_token.cuh"
#include "predictor/ops/cuda/tensor_steps.cuh"

namespace idefics::IDEFICS_TARGET {

template <typename T, typename Key, int kPanels>
__global__ void __launch_bounds__(kAttendThreads, 3) AttendTensorKernel(AttendArguments<T, Key> a) {
  __shared__ TensorMemory<T, Key, kPanels> memory;
  const RowSpan tile = TileOfBlock<kTensorTile>(a.ragged);
  if (tile.count < 1) return;
  const int first_of_warp = static_cast<int>(threadIdx.x) / 32 * kTensorQueries;
  const int64_t width = static_cast<int64_t>(a.heads) * a.dim;
  const int head = static_cast<int>(blockIdx.y);
  const int64_t origin = tile.first * width + static_cast<int64_t>(head) * a.dim;
  const RowShape shape{a.dim, a.packed};
  FillTile<kAttendThreads>(
      memory.keys, HeadRows<T>{a.q + origin, width}, [](int at) { return at; }, tile.count, shape);
  CommitAsyncCopies();
  WaitForAsyncCopies<0>();
  __syncthreads();
  const TensorQueries<T, kPanels> queries(memory.keys);
  __syncthreads();  // the queries have been read

  const auto slot_of = [&](int key) { return tile.slots.At(key); };
  const TileKeys<Key, decltype(slot_of)> keys{RowsOfHead(a.k_cache, head, a.heads, a.dim),
                                              RowsOfHead(a.v_cache, head, a.heads, a.dim), slot_of,
                                              tile.before + tile.count, shape};
  const int first_seen = tile.before + first_of_warp + static_cast<int>(threadIdx.x) % 32 / 4 + 1;
  const auto seen_of = [&](int base) {
    return SeenKeys{{first_seen - base, first_seen + 8 - base}};
  };
  TensorState<kPanels> state;
  WalkKeys<kAttendThreads>(memory, queries, keys, first_of_warp < tile.count, seen_of, state);
  if (first_of_warp >= tile.count) return;
  StoreTensorTile(state, a.out + origin + first_of_warp * width, width, tile.count - first_of_warp,
                  a.dim);
}

}  // namespace idefics::IDEFICS_TARGET
