// SPDX-License-Identifier: Apache-2.0
// A bundle's two modules with their weights where and how the runner's devices read them. Of
// torch_runner.cc.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <vector>

#include "predictor/model/torch_runner.h"
#include "weights/bundle.h"
#include "weights/layer_split.h"
#include "weights/shard.h"

namespace idefics {

struct LoadedModules {
  torch::jit::Module vision, decoder;
  std::vector<uint64_t> weight_bytes;  // on each device
};

// devices: by stage of the split. REQUIRES: as LoadModule.
Result<LoadedModules> LoadModules(const Bundle& bundle, const LayerSplit& split,
                                  const std::vector<at::Device>& devices, Rank rank,
                                  DecoderWeights weights);

}  // namespace idefics
