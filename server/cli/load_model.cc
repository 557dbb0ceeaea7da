// SPDX-License-Identifier: Apache-2.0
#include "server/cli/load_model.h"

#include <unistd.h>

#include <chrono>
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

AsyncScheduling AsyncSchedulingFromFlag(const std::string& value) {
  if (value == "auto") return AsyncScheduling::kAuto;
  return value == "true" ? AsyncScheduling::kOn : AsyncScheduling::kOff;
}

std::optional<bool> BoolOrAuto(const std::string& value) {
  if (value == "auto") return std::nullopt;
  return value == "true";
}

}  // namespace
#endif

Result<std::unique_ptr<Predictor>> LoadModel(const FlagValues& flags,
                                             [[maybe_unused]] int64_t decode_memory_bytes) {
  if (flags.Text("model").empty()) {
    return Status::InvalidInput(kNoModel);
  }
#ifdef IDEFICS_WITH_TORCH
  PredictorOptions options;
  options.bundle = flags.Text("model");
  options.runner.device = flags.Text("device");
  options.runner.tensor_parallel = static_cast<int>(flags.Integer("tensor-parallel"));
  options.runner.rank_timeout = std::chrono::seconds(flags.Integer("rank-timeout"));
  options.runner.num_threads = static_cast<int>(flags.Integer("threads"));
  options.runner.kv_tokens = flags.Integer("kv-tokens");
  options.runner.image_cache_slots = static_cast<int32_t>(flags.Integer("image-cache-slots"));
  options.runner.custom_ops = flags.Bool("custom-ops");
  options.runner.cuda_graphs = flags.Bool("graph");
  options.runner.async_scheduling = AsyncSchedulingFromFlag(flags.Text("async-scheduling"));
  options.runner.weights =
      flags.Text("weights") == "fp8" ? DecoderWeights::kFp8 : DecoderWeights::kAsInBundle;
  if (flags.Text("kv-dtype") == "int8") options.runner.kv_dtype = KvDType::kInt8;
  options.runner.huge_pages = BoolOrAuto(flags.Text("huge-pages"));
  options.engine.max_num_seqs = static_cast<int>(flags.Integer("max-num-seqs"));
  options.engine.max_sequence_tokens = static_cast<int>(flags.Integer("max-sequence-tokens"));
  options.engine.speculation = flags.Bool("speculation");
  options.engine.prefix_cache = BoolOrAuto(flags.Text("prefix-cache"));
  options.image_limits.max_bytes = flags.Integer("max-image-bytes");
  options.image_limits.max_pixels = flags.Integer("max-image-pixels");
  options.decode_memory_bytes = decode_memory_bytes;
  options.verify_hashes = VerifyHashesFromFlag(flags.Text("verify-hashes"));
  // Bars would be no JSON among JSON lines.
  options.show_progress = flags.Text("log-format") == "console" || isatty(STDERR_FILENO) == 1;
  return LoadModelPredictor(options);
#else
  return Status::InvalidInput("this build has no model runtime: build with -DIDEFICS_TORCH=ON");
#endif
}

}  // namespace idefics
