// SPDX-License-Identifier: Apache-2.0
// The Predictor that loads a bundle and runs it: images, text and the engine put together.
#pragma once

#include <memory>
#include <string>

#include "predictor/engine/engine.h"
#include "predictor/images/decode.h"
#include "predictor/predictor.h"
#include "weights/bundle.h"

namespace idefics {

struct PredictorOptions {
  std::string bundle;           // folder
  std::string device = "auto";  // "cpu", "cuda", "cuda:N"
  int num_threads = 0;          // CPU threads of the model; 0: one per core
  int64_t kv_tokens = 0;        // slots of the KV arena; 0: as many as memory allows
  int32_t image_entries = 32;   // pictures whose cross-attention K/V are kept
  bool fused = true;            // the model's own operators; false: plain ones, for comparison
  bool graphs = true;           // decode steps on CUDA from graphs; false: eagerly, for comparison
  std::string step_ahead = "auto";  // as TorchRunnerOptions has them
  std::string weights = "bundle";
  EngineOptions engine;
  ImageLimits image_limits;
  VerifyHashes verify_hashes = VerifyHashes::kChanged;
  bool show_progress = false;
};

// Blocks until the model runs. Fails with one sentence that names file, value and remedy.
Result<std::unique_ptr<Predictor>> LoadModelPredictor(const PredictorOptions& options);

}  // namespace idefics
