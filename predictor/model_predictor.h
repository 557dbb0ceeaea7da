// SPDX-License-Identifier: Apache-2.0
// The Predictor that loads a bundle and runs it: images, text, the engine and libtorch's runner.
#pragma once

#include <memory>
#include <string>

#include "predictor/engine/engine.h"
#include "predictor/images/decode.h"
#include "predictor/images/decode_memory.h"
#include "predictor/model/torch_runner.h"
#include "predictor/predictor.h"
#include "weights/bundle.h"

namespace idefics {

struct PredictorOptions {
  std::string bundle;  // folder
  TorchRunnerOptions runner;
  EngineOptions engine;
  ImageLimits image_limits;
  int64_t decode_memory_bytes = DecodeMemory::kAmpleBytes;
  VerifyHashes verify_hashes = VerifyHashes::kChanged;
  bool show_progress = false;
};

// Blocks until the model runs. Fails with one sentence that names file, value and remedy.
Result<std::unique_ptr<Predictor>> LoadModelPredictor(const PredictorOptions& options);

}  // namespace idefics
