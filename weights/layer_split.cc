// SPDX-License-Identifier: Apache-2.0
#include "weights/layer_split.h"

#include <charconv>
#include <limits>
#include <string>

#include "common/check.h"

namespace idefics {
namespace {

// The number behind `key` in a name such as "decoder.groups.3.layers.1.qkv"; 0: there is none.
int64_t NumberBehind(std::string_view name, std::string_view key) {
  const size_t at = name.find(key);
  uint32_t number = 0;
  if (at == std::string_view::npos) return number;
  std::from_chars(name.data() + at + key.size(), name.data() + name.size(), number);
  return number;
}

// The decoder layer with which a tensor stays.
int64_t LayerOf(std::string_view tensor, int64_t interval, int64_t layers) {
  constexpr std::string_view kGroups = "decoder.groups.";
  if (tensor.starts_with(kGroups)) {
    return NumberBehind(tensor, kGroups) * interval + NumberBehind(tensor, ".layers.");
  }
  const bool is_last = tensor.starts_with("decoder.norm") || tensor.starts_with("decoder.lm_head.");
  return is_last ? layers - 1 : 0;
}

// Cuts `sizes` into so many runs of neighbours that the sum of the squares of their sums is least:
// where the sizes are equal, no run can then give a neighbour anything without being the smaller.
std::vector<Run> CutEvenly(const std::vector<uint64_t>& sizes, int runs) {
  const auto count = static_cast<int64_t>(sizes.size());
  const auto at = [count](int run, int64_t end) {
    return static_cast<size_t>(run * (count + 1) + end);
  };
  // Of the first `end` sizes in `run` runs: the least sum, and where the last of these begins.
  std::vector<double> least(at(runs, count) + 1, std::numeric_limits<double>::infinity());
  std::vector<int64_t> begins(least.size());
  least[at(0, 0)] = 0;
  for (int run = 1; run <= runs; ++run) {
    for (int64_t end = run; end <= count; ++end) {
      double sum = 0;
      for (int64_t begin = end - 1; begin >= run - 1; --begin) {
        sum += static_cast<double>(sizes[static_cast<size_t>(begin)]);
        const double squares = least[at(run - 1, begin)] + sum * sum;
        if (squares >= least[at(run, end)]) continue;
        least[at(run, end)] = squares;
        begins[at(run, end)] = begin;
      }
    }
  }
  std::vector<Run> cut(static_cast<size_t>(runs));
  int64_t end = count;
  for (int run = runs; run > 0; --run) {
    const int64_t begin = begins[at(run, end)];
    cut[static_cast<size_t>(run) - 1] = {begin, end - begin};
    end = begin;
  }
  return cut;
}

}  // namespace

LayerSplit::LayerSplit(const ModelConfig& model)
    : interval_(model.cross_layer_interval),
      cross_layers_(model.num_cross_layers()),
      layers_{{0, model.num_layers}} {}

Result<LayerSplit> LayerSplit::Make(const ModelConfig& model,
                                    const std::vector<TensorView>& tensors, int stages) {
  IDEFICS_CHECK(stages > 0);
  if (model.num_layers < stages) {
    return Status::InvalidInput("--device names " + std::to_string(stages) +
                                " devices, and the model has " + std::to_string(model.num_layers) +
                                " layers: name as many devices at most");
  }
  LayerSplit split(model);
  std::vector<uint64_t> bytes(static_cast<size_t>(model.num_layers));
  for (const TensorView& tensor : tensors) {
    const int64_t layer = LayerOf(tensor.name, split.interval_, model.num_layers);
    if (layer < model.num_layers) bytes[static_cast<size_t>(layer)] += tensor.bytes.size();
  }
  split.layers_ = CutEvenly(bytes, stages);
  return split;
}

Run LayerSplit::CrossLayersOf(int stage) const {
  const Run& layers = layers_[static_cast<size_t>(stage)];
  const int64_t first = CeilDiv(layers.begin, interval_);
  return {first, CeilDiv(layers.begin + layers.count, interval_) - first};
}

int LayerSplit::StageOf(std::string_view tensor) const {
  const Run& last = layers_.back();
  const int64_t layer = LayerOf(tensor, interval_, last.begin + last.count);
  int stage = 0;
  while (stage + 1 < stages() && layer >= layers_[static_cast<size_t>(stage) + 1].begin) ++stage;
  return stage;
}

uint64_t LayerSplit::PartOfLayers(uint64_t bytes, int stage) const {
  const Run& last = layers_.back();
  return bytes / static_cast<uint64_t>(last.begin + last.count) *
         static_cast<uint64_t>(layers_[static_cast<size_t>(stage)].count);
}

uint64_t LayerSplit::PartOfCrossLayers(uint64_t bytes, int stage) const {
  return bytes / static_cast<uint64_t>(cross_layers_) *
         static_cast<uint64_t>(CrossLayersOf(stage).count);
}

}  // namespace idefics
