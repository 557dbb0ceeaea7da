// SPDX-License-Identifier: Apache-2.0
// Attention of long rows (prompt pieces) in 16 bit by tensor cores: one block per (tile of 64
// tokens of one row, head), which walks over the row's keys.
#pragma once

#include "predictor/ops/cuda/attend_token.cuh"
#include "predictor/ops/cuda/tensor_steps.cuh"

namespace idefics::IDEFICS_TARGET {

// Tiles of row r are numbered from row_starts[r] / kTensorTile + r. That leaves room for each row's
// tiles, and the host can size the grid without reading the row starts, which are on the device.
// Those with the most keys, a prompt's last ones, come first.
template <typename T, typename Key, int kPanels>
__global__ void __launch_bounds__(kAttendThreads, 3) AttendTensorKernel(AttendArguments<T, Key> a) {
  __shared__ TensorMemory<T, Key, kPanels> memory;
  const auto first_tile = [&](int row) { return a.ragged.row_starts[row] / kTensorTile + row; };
  const int index = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int row_index = FindRow(index, a.ragged.rows, first_tile);
  const RowSpan row = SpanOf(a.ragged, row_index);
  const int query = (index - first_tile(row_index)) * kTensorTile;  // in the row
  if (query >= row.count || row.count <= kShortRow) return;
  const int count = row.count - query < kTensorTile ? row.count - query : kTensorTile;
  const int first_of_warp = static_cast<int>(threadIdx.x) / 32 * kTensorQueries;
  const int64_t width = static_cast<int64_t>(a.heads) * a.dim;
  const int head = static_cast<int>(blockIdx.y);
  const int64_t origin = (row.first + query) * width + static_cast<int64_t>(head) * a.dim;
  const RowShape shape{a.dim, a.packed};
  FillTile<kAttendThreads>(
      memory.keys, HeadRows<T>{a.q + origin, width}, [](int at) { return at; }, count, shape);
  CommitAsyncCopies();
  WaitForAsyncCopies<0>();
  __syncthreads();
  const TensorQueries<T, kPanels> queries(memory.keys);
  __syncthreads();  // the queries have been read

  const auto slot_of = [&](int key) { return row.slots.At(key); };
  const TileKeys<Key, decltype(slot_of)> keys{RowsOfHead(a.k_cache, head, a.heads, a.dim),
                                              RowsOfHead(a.v_cache, head, a.heads, a.dim), slot_of,
                                              row.before + query + count, shape};
  const int first_seen =
      row.before + query + first_of_warp + static_cast<int>(threadIdx.x) % 32 / 4 + 1;
  const auto seen_of = [&](int base) {
    return SeenKeys{{first_seen - base, first_seen + 8 - base}};
  };
  TensorState<kPanels> state;
  WalkKeys<kAttendThreads>(memory, queries, keys, first_of_warp < count, seen_of, state);
  if (first_of_warp >= count) return;
  StoreTensorTile(state, a.out + origin + first_of_warp * width, width, count - first_of_warp,
                  a.dim);
}

// Attends the rows of more than kShortRow tokens. REQUIRES: dim <= kMaxTileDim.
template <typename T, typename Key>
void LaunchAttendTensor(const AttendArguments<T, Key>& a, Stream stream) {
  const dim3 grid{static_cast<unsigned>(a.ragged.tokens / kTensorTile + a.ragged.rows),
                  static_cast<unsigned>(a.heads)};
  ForPanels(a.dim, [&](auto panels) {
    Launch(AttendTensorKernel<T, Key, panels.value>, grid, kAttendThreads, stream, a);
  });
}

}  // namespace idefics::IDEFICS_TARGET
