// SPDX-License-Identifier: Apache-2.0
// Decoder: a bundle's decoder module with the caches that its layers read, whole on one device or
// divided by layers among several (weights/layer_split.h). Engine thread; methods throw c10::Error.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "predictor/model/arena_size.h"
#include "predictor/model/image_encoder.h"
#include "predictor/model/kv_arena.h"
#include "weights/layer_split.h"
#include "weights/manifest.h"

namespace idefics {

class Decoder {
 public:
  // module: each of its parameters on the device of its stage. devices: by stage.
  Decoder(torch::jit::Module module, const LayerSplit& split,
          const std::vector<at::Device>& devices);

  // Makes every stage's caches, with `heads` heads a layer. type: the activations'.
  void Allocate(const ModelConfig& model, int64_t heads, KvDType kv_dtype, at::ScalarType type,
                CacheSizes sizes);

  // indices: kStepArrays but the sampling params, on the first device. Gives logits [S, vocab] f32
  // on the last one. The work goes to the current queue.
  at::Tensor Logits(const std::vector<at::Tensor>& indices);

  // In every stage, on the current queue.
  void CopyKv(const KvCopy& copy) const;

  // By stage.
  std::vector<ImageCacheTensors> image_caches() const;

 private:
  struct Layer {
    std::optional<torch::jit::Module> cross;  // that runs before it
    torch::jit::Module self;
  };
  struct Stage {
    at::Device device;
    std::vector<Layer> layers;
    KvArena arena;             // of its layers
    ImageCacheTensors images;  // of its cross layers
  };
  // What goes from block to block (scripts/export/modules.py): the next one's input is
  // x + gate · delta, each [T, h].
  struct Hidden {
    at::Tensor x;
    torch::jit::IValue delta, gate;  // or none
  };

  void RunStage(Stage& stage, const std::vector<at::Tensor>& indices, Hidden* hidden);
  at::Tensor Head(const Hidden& hidden, const at::Tensor& sample_rows);

  torch::jit::Module module_;
  std::vector<Stage> stages_;
};

}  // namespace idefics
