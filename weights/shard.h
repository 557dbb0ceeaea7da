// SPDX-License-Identifier: Apache-2.0
// How a model is divided among ranks (tensor parallelism): which columns and which inputs of each
// linear W [n, k] a rank holds. Attention is divided by heads, an MLP by units of its inner width;
// what follows them (o, down) is divided along k, so that the ranks' products add up to the whole.
// Everything else is whole on each rank. docs/gpu.md#several-devices. Pure functions, no torch.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "weights/linear_layout.h"
#include "weights/manifest.h"
#include "weights/safetensors.h"

namespace idefics {

struct Rank {
  int index = 0;
  int count = 1;
};

// Neighbours: begin … begin + count - 1.
struct Run {
  int64_t begin = 0;
  int64_t count = 0;

  friend bool operator==(const Run&, const Run&) = default;
};

// The rank's part of a linear.
struct LinearShard {
  std::vector<Run> columns;  // of W's n, in the rank's order; empty: all
  Run inputs;                // of W's k; count 0: all
  int64_t k = 0;             // of the whole W, where inputs are cut

  bool whole() const { return columns.empty() && inputs.count == 0; }
};

// What is left over goes to the first ranks, one each.
constexpr Run ShareOf(int64_t units, Rank rank) {
  const int64_t each = units / rank.count;
  const int64_t more = units % rank.count;
  const int64_t before = rank.index < more ? rank.index : more;
  return {rank.index * each + before, each + (rank.index < more ? 1 : 0)};
}

// Values of k in each of the `steps` words or groups that hold k of them: a power of two.
constexpr int64_t InputsOfStep(int64_t k, int64_t steps) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(CeilDiv(k, steps))));
}

// linear: its module's path, "decoder.groups.0.layers.1.qkv". REQUIRES: CheckRanks was ok.
LinearShard ShardOf(const BundleManifest& manifest, std::string_view linear, Rank rank);

// Fails with kInvalidInput where the model cannot be divided among so many: it has too few heads,
// or a cut would go through a stored word or a group of int4 weights.
Status CheckRanks(const BundleManifest& manifest, int ranks);

// Heads that the rank computes, and keeps the keys and values of.
Run RankHeads(const ModelConfig& model, Rank rank);

// The shape of the rank's part of a tensor of the bundle.
std::vector<int64_t> ShardShape(const BundleManifest& manifest, const TensorView& tensor,
                                Rank rank);

// Bytes of the rank's part of all `tensors`.
uint64_t ShardBytes(const BundleManifest& manifest, const std::vector<TensorView>& tensors,
                    Rank rank);

}  // namespace idefics
