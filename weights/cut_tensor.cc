// SPDX-License-Identifier: Apache-2.0
#include "weights/cut_tensor.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "weights/linear_layout.h"

namespace idefics {
namespace {

bool AreTiles(const std::vector<Run>& runs) {
  return std::ranges::all_of(runs, [](const Run& run) {
    return run.begin % kTileColumns == 0 && run.count % kTileColumns == 0;
  });
}

// stored [tiles, …], with the 64 columns of a tile in dimension `columns`.
at::Tensor CutColumns(const at::Tensor& stored, const std::vector<Run>& runs, int64_t columns) {
  std::vector<at::Tensor> parts;
  if (AreTiles(runs)) {
    for (const Run& run : runs) {
      parts.push_back(stored.narrow(0, run.begin / kTileColumns, run.count / kTileColumns));
    }
    return at::cat(parts);
  }
  const at::Tensor rows = stored.movedim(columns, 1).flatten(0, 1);  // [columns, …]
  int64_t total = 0;
  for (const Run& run : runs) {
    parts.push_back(rows.narrow(0, run.begin, run.count));
    total += run.count;
  }
  auto padding = rows.sizes().vec();
  padding[0] = CeilDiv(total, kTileColumns) * kTileColumns - total;
  parts.push_back(at::zeros(padding, rows.options()));
  return at::cat(parts).unflatten(0, {-1, kTileColumns}).movedim(1, columns).contiguous();
}

// stored [tiles, words or groups of k, …].
at::Tensor CutInputs(const at::Tensor& stored, const LinearShard& shard) {
  const int64_t together = InputsOfStep(shard.k, stored.size(1));
  const int64_t count = CeilDiv(shard.inputs.count, together);
  return stored.narrow(1, shard.inputs.begin / together, count).contiguous();
}

}  // namespace

at::Tensor CutWeight(const at::Tensor& stored, const LinearShard& shard) {
  if (shard.inputs.count > 0) return CutInputs(stored, shard);
  return shard.columns.empty() ? stored : CutColumns(stored, shard.columns, 2);
}

at::Tensor CutScale(const at::Tensor& stored, const LinearShard& shard) {
  if (shard.inputs.count > 0) return stored.dim() > 2 ? CutInputs(stored, shard) : stored;
  return shard.columns.empty() ? stored : CutColumns(stored, shard.columns, stored.dim() - 1);
}

}  // namespace idefics
