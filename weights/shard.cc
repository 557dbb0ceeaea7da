// SPDX-License-Identifier: Apache-2.0
#include "weights/shard.h"

#include <string>

namespace idefics {
namespace {

// An MLP is divided in units of this many where it is wide enough: a group of int4 weights, and two
// tiles. A smaller model's is divided in words.
constexpr int64_t kWideUnit = kGroup;
constexpr int64_t kNarrowUnit = 8;

// Inputs of a linear that must stay together.
int64_t UncutInputs(const BundleManifest& manifest) {
  return manifest.quantization == "int4" ? kGroup : manifest.quantization == "int8" ? 4 : 2;
}

int64_t MlpUnit(const ModelConfig& model, int ranks) {
  const bool wide =
      model.intermediate_size % kWideUnit == 0 && model.intermediate_size / kWideUnit >= ranks;
  return wide ? kWideUnit : kNarrowUnit;
}

Run Scaled(Run run, int64_t unit) { return {run.begin * unit, run.count * unit}; }

Run MlpOf(const ModelConfig& model, Rank rank) {
  const int64_t unit = MlpUnit(model, rank.count);
  return Scaled(ShareOf(model.intermediate_size / unit, rank), unit);
}

// The same run of each of `parts` stacked matrices of `width` columns.
std::vector<Run> InEach(Run run, int parts, int64_t width) {
  std::vector<Run> runs;
  for (int64_t part = 0; part < parts; ++part)
    runs.push_back({part * width + run.begin, run.count});
  return runs;
}

int64_t TotalOf(const std::vector<Run>& runs) {
  int64_t total = 0;
  for (const Run& run : runs) total += run.count;
  return total;
}

Status CannotBeDivided(int ranks, const std::string& why) {
  return Status::InvalidInput("the model cannot be divided among " + std::to_string(ranks) +
                              " devices (--tensor-parallel): " + why);
}

}  // namespace

Run RankHeads(const ModelConfig& model, Rank rank) { return ShareOf(model.num_heads, rank); }

LinearShard ShardOf(const BundleManifest& manifest, std::string_view linear, Rank rank) {
  if (rank.count == 1) return {};
  const ModelConfig& model = manifest.model;
  const std::string_view name = linear.substr(linear.rfind('.') + 1);
  const Run heads = Scaled(RankHeads(model, rank), model.head_dim());
  const int64_t h = model.hidden_size;
  if (linear.starts_with("vision.cross.") && name == "kv") return {InEach(heads, 2, h), {}, 0};
  if (!linear.starts_with("decoder.")) return {};
  if (name == "qkv") return {InEach(heads, 3, h), {}, 0};
  if (name == "q") return {{heads}, {}, 0};
  if (name == "o") return {{}, heads, h};
  const Run mlp = MlpOf(model, rank);
  if (name == "gate_up") return {InEach(mlp, 2, model.intermediate_size), {}, 0};
  if (name == "down") return {{}, mlp, model.intermediate_size};
  return {};
}

Status CheckRanks(const BundleManifest& manifest, int ranks) {
  const ModelConfig& model = manifest.model;
  if (ranks == 1) return Status::Ok();
  if (model.num_heads < ranks) {
    return CannotBeDivided(ranks, "it has " + std::to_string(model.num_heads) + " heads");
  }
  if (model.intermediate_size % kNarrowUnit != 0 ||
      model.intermediate_size / MlpUnit(model, ranks) < ranks) {
    return CannotBeDivided(
        ranks, "its MLPs are " + std::to_string(model.intermediate_size) + " numbers wide");
  }
  const int64_t uncut = UncutInputs(manifest);
  for (int index = 1; index < ranks; ++index) {
    const Rank rank{index, ranks};
    for (const Run& inputs :
         {Scaled(RankHeads(model, rank), model.head_dim()), MlpOf(model, rank)}) {
      if (inputs.begin % uncut == 0) continue;
      return CannotBeDivided(ranks, manifest.quantization +
                                        " weights are cut only between groups "
                                        "of " +
                                        std::to_string(uncut) +
                                        " inputs, and this cut is "
                                        "at " +
                                        std::to_string(inputs.begin));
    }
  }
  return Status::Ok();
}

std::vector<int64_t> ShardShape(const BundleManifest& manifest, const TensorView& tensor,
                                Rank rank) {
  const size_t dot = tensor.name.rfind('.');
  const LinearShard shard = ShardOf(manifest, std::string_view(tensor.name).substr(0, dot), rank);
  std::vector<int64_t> shape = tensor.shape;
  if (!shard.columns.empty()) shape[0] = CeilDiv(TotalOf(shard.columns), kTileColumns);
  // Words of a weight, groups of a scale; a scale of columns alone has neither.
  if (shard.inputs.count > 0 && shape.size() > 2) {
    shape[1] = CeilDiv(shard.inputs.count, InputsOfStep(shard.k, shape[1]));
  }
  return shape;
}

uint64_t ShardBytes(const BundleManifest& manifest, const std::vector<TensorView>& tensors,
                    Rank rank) {
  const auto numbers = [](const std::vector<int64_t>& shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    return count;
  };
  uint64_t bytes = 0;
  for (const TensorView& tensor : tensors) {
    const int64_t whole = numbers(tensor.shape);
    if (whole == 0) continue;
    const int64_t part = numbers(ShardShape(manifest, tensor, rank));
    bytes += tensor.bytes.size() / static_cast<uint64_t>(whole) * static_cast<uint64_t>(part);
  }
  return bytes;
}

}  // namespace idefics
