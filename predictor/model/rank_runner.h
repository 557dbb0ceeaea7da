// SPDX-License-Identifier: Apache-2.0
// TorchRunner for one device: all of a model, or one rank's part of it. Of make_torch_runner.cc.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

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
// with the other ranks. The calling thread is the engine's thread of the runner. description: as
// MadeTorchRunner's.
Result<std::unique_ptr<ModelRunner>> LoadRankRunner(const Bundle& bundle, at::Device device,
                                                    const TorchRunnerOptions& options,
                                                    const RankPlace& place,
                                                    std::string* description);

}  // namespace idefics
