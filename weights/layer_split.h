// SPDX-License-Identifier: Apache-2.0
// How a model is divided by layers among devices ("stages"), which every token passes one after the
// other: the vision tower and the embeddings are on the first, the final norm and the head on the
// last, and each has neighbouring layers of the decoder. A cross layer stays with the decoder layer
// that it stands before. docs/gpu.md#several-devices. Pure functions, no torch.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "weights/manifest.h"
#include "weights/safetensors.h"
#include "weights/shard.h"

namespace idefics {

class LayerSplit {
 public:
  // Everything on one device.
  explicit LayerSplit(const ModelConfig& model);

  // Divides the bytes of `tensors` as evenly as whole layers allow. kInvalidInput: the model has
  // fewer layers than `stages`. REQUIRES: stages > 0.
  static Result<LayerSplit> Make(const ModelConfig& model, const std::vector<TensorView>& tensors,
                                 int stages);

  int stages() const { return static_cast<int>(layers_.size()); }
  // The decoder's layers on each stage.
  const std::vector<Run>& layers() const { return layers_; }
  // The cross layers on a stage; there may be none.
  Run CrossLayersOf(int stage) const;

  // tensor: the name of one of the bundle's, "decoder.groups.0.layers.1.qkv.weight".
  int StageOf(std::string_view tensor) const;

  // Of a number of bytes that all layers, or all cross layers, have together, the stage's.
  uint64_t PartOfLayers(uint64_t bytes, int stage) const;
  uint64_t PartOfCrossLayers(uint64_t bytes, int stage) const;

 private:
  int64_t interval_;  // decoder layers for each cross layer
  int64_t cross_layers_;
  std::vector<Run> layers_;
};

}  // namespace idefics
