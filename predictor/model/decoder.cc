// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/decoder.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "predictor/model/step_indices.h"

namespace idefics {
namespace {

using torch::jit::IValue;

// x + delta, and its norm.
at::Tensor AddNorm(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                   double eps) {
  static const auto add_norm =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("idefics::add_norm", "")
          .typed<std::tuple<at::Tensor, at::Tensor>(const at::Tensor&, const at::Tensor&,
                                                    const std::optional<at::Tensor>&,
                                                    const at::Tensor&, double)>();
  return std::get<1>(add_norm.call(x, delta, std::nullopt, weight, eps));
}

}  // namespace

Decoder::Decoder(torch::jit::Module module, const LayerSplit& split,
                 const std::vector<at::Device>& devices)
    : module_(std::move(module)) {
  std::vector<Layer> layers;
  for (const torch::jit::Module& group : module_.attr("groups").toModule().children()) {
    std::optional<torch::jit::Module> cross = group.attr("cross").toModule();
    for (const torch::jit::Module& layer : group.attr("layers").toModule().children()) {
      layers.push_back({std::exchange(cross, std::nullopt), layer});
    }
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    const Run& run = split.layers()[i];
    const auto begin = layers.begin() + run.begin;
    stages_.push_back({devices[i], {begin, begin + run.count}, {}, {}});
  }
}

void Decoder::Allocate(const ModelConfig& model, int64_t heads, KvDType kv_dtype,
                       at::ScalarType type, CacheSizes sizes) {
  for (Stage& stage : stages_) {
    const auto options = at::TensorOptions(type).device(stage.device);
    const auto layers = static_cast<int64_t>(stage.layers.size());
    const int64_t cross_layers = std::ranges::count_if(
        stage.layers, [](const Layer& layer) { return layer.cross.has_value(); });
    stage.arena =
        KvArena::Allocate(layers, {heads, model.head_dim()}, kv_dtype, sizes.kv_tokens, options);
    const std::vector<int64_t> table = {cross_layers, sizes.image_slots, heads,
                                        model.tokens_per_image(), model.head_dim()};
    stage.images = {at::empty(table, options), at::empty(table, options)};
  }
}

at::Tensor Decoder::Logits(const std::vector<at::Tensor>& indices) {
  if (stages_.size() == 1) {
    const Stage& whole = stages_.front();
    std::vector<IValue> inputs(indices.begin(), indices.end());
    inputs.insert(inputs.end(), {whole.arena.k, whole.arena.v, whole.images.k, whole.images.v});
    return module_.forward(std::move(inputs)).toTensor();
  }
  Hidden hidden;
  hidden.x = at::embedding(module_.attr("embed").toTensor(), indices[kTokensArray]);
  for (Stage& stage : stages_) RunStage(stage, indices, &hidden);
  return Head(hidden, indices[kSampleRowsArray]);
}

// The body of the loops of Decoder.forward and LayerGroup.forward in scripts/export/modules.py, for
// a stage's layers.
void Decoder::RunStage(Stage& stage, const std::vector<at::Tensor>& indices, Hidden* hidden) {
  const c10::DeviceGuard guard(stage.device);
  const auto here = [&stage](const at::Tensor& tensor) {
    return tensor.to(stage.device, /*non_blocking=*/true);
  };
  hidden->x = here(hidden->x);
  if (!hidden->delta.isNone()) hidden->delta = here(hidden->delta.toTensor());
  const auto angles = module_.get_method("rotary")({here(indices[kPositionsArray])}).toTuple();
  const at::Tensor kv_slots = here(indices[kKvSlotsArray]);
  const at::Tensor image_slots = here(indices[kImageSlotsArray]);
  const at::Tensor row_starts = here(indices[kRowStartsArray]);
  const at::Tensor kv_starts = here(indices[kKvStartsArray]);
  const at::Tensor kv_lengths = here(indices[kKvLengthsArray]);
  const auto take = [hidden](const IValue& result) {
    hidden->x = result.toTuple()->elements()[0].toTensor();
    hidden->delta = result.toTuple()->elements()[1];
  };
  int64_t cross_layer = 0;
  for (size_t i = 0; i < stage.layers.size(); ++i) {
    Layer& layer = stage.layers[i];
    if (layer.cross) {
      take(layer.cross->forward({hidden->x, hidden->delta, stage.images.k.select(0, cross_layer),
                                 stage.images.v.select(0, cross_layer), image_slots}));
      hidden->gate = layer.cross->attr("mlp_gate");
      ++cross_layer;
    }
    const auto at = static_cast<int64_t>(i);
    take(layer.self.forward({hidden->x, hidden->delta, hidden->gate, angles->elements()[0],
                             angles->elements()[1], kv_slots, row_starts, kv_starts, kv_lengths,
                             stage.arena.k.select(0, at), stage.arena.v.select(0, at)}));
    hidden->gate = {};
  }
}

// REQUIRES: the last stage has run.
at::Tensor Decoder::Head(const Hidden& hidden, const at::Tensor& sample_rows) {
  const c10::DeviceGuard guard(stages_.back().device);
  const at::Tensor rows = sample_rows.to(stages_.back().device, /*non_blocking=*/true);
  const at::Tensor y =
      AddNorm(hidden.x.index_select(0, rows), hidden.delta.toTensor().index_select(0, rows),
              module_.attr("norm").toTensor(), module_.attr("eps").toDouble());
  return module_.attr("lm_head").toModule().forward({y}).toTensor().to(at::kFloat);
}

void Decoder::CopyKv(const KvCopy& copy) const {
  for (const Stage& stage : stages_) stage.arena.Copy(copy);
}

std::vector<ImageCacheTensors> Decoder::image_caches() const {
  std::vector<ImageCacheTensors> caches;
  for (const Stage& stage : stages_) caches.push_back(stage.images);
  return caches;
}

}  // namespace idefics
