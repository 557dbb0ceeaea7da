// SPDX-License-Identifier: Apache-2.0
// TorchRunner: all of a model, on one device or by layers on several, or one rank's part of it. Of
// make_torch_runner.cc.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>
#include <vector>

#include "predictor/model/model_runner.h"
#include "predictor/model/rank_group.h"
#include "predictor/model/torch_runner.h"
#include "weights/bundle.h"
#include "weights/shard.h"

namespace idefics {

// A rank among others; a model on one device has no group.
struct RankPlace {
  Rank rank;
  RankGroup* group = nullptr;
};

// Loads the rank's weights, allocates its caches and runs one token through the model, together
// with the other ranks. The calling thread is the engine's thread of the runner. devices: several
// where the layers are divided among them; then all of one type, GPUs distinct, and one rank.
// description: as MadeTorchRunner's. kInvalidInput: there are more devices than layers.
Result<std::unique_ptr<ModelRunner>> LoadRankRunner(const Bundle& bundle,
                                                    const std::vector<at::Device>& devices,
                                                    const TorchRunnerOptions& options,
                                                    const RankPlace& place,
                                                    std::string* description);

}  // namespace idefics
