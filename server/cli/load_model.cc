// SPDX-License-Identifier: Apache-2.0
#include "server/cli/load_model.h"

#include <unistd.h>

#ifdef IDEFICS_WITH_TORCH
#include "predictor/model_predictor.h"
#endif

namespace idefics {

#ifdef IDEFICS_WITH_TORCH
namespace {

VerifyHashes VerifyHashesFromFlag(const std::string& value) {
  if (value == "always") return VerifyHashes::kAlways;
  return value == "never" ? VerifyHashes::kNever : VerifyHashes::kChanged;
}

}  // namespace
#endif

Result<std::unique_ptr<Predictor>> LoadModel(const FlagValues& flags) {
  if (flags.Text("model").empty()) {
    return Status::InvalidInput(kNoModel);
  }
#ifdef IDEFICS_WITH_TORCH
  PredictorOptions options;
  options.bundle = flags.Text("model");
  options.device = flags.Text("device");
  options.num_threads = static_cast<int>(flags.Integer("threads"));
  options.kv_tokens = flags.Integer("kv-tokens");
  options.image_entries = static_cast<int32_t>(flags.Integer("image-entries"));
  options.fused = flags.Bool("fused");
  options.graphs = flags.Bool("graph");
  options.step_ahead = flags.Text("step-ahead");
  options.weights = flags.Text("weights");
  options.engine.max_rows = static_cast<int>(flags.Integer("max-batch"));
  options.engine.max_sequence_tokens = static_cast<int>(flags.Integer("max-sequence-tokens"));
  options.image_limits.max_bytes = flags.Integer("max-image-bytes");
  options.image_limits.max_pixels = flags.Integer("max-image-pixels");
  options.verify_hashes = VerifyHashesFromFlag(flags.Text("verify-hashes"));
  // Bars would be no JSON among JSON lines.
  options.show_progress = flags.Text("log-format") == "console" || isatty(STDERR_FILENO) == 1;
  return LoadModelPredictor(options);
#else
  return Status::InvalidInput("this build has no model runtime: build with -DIDEFICS_TORCH=ON");
#endif
}

}  // namespace idefics
