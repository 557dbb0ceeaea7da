// SPDX-License-Identifier: Apache-2.0
#include "predictor/model_predictor.h"

#include <algorithm>

#include "common/log.h"
#include "predictor/end_tokens.h"
#include "predictor/engine_predictor.h"
#include "weights/bundle.h"

namespace idefics {
namespace {

Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const Bundle& bundle) {
  const TokenizerConfig& config = bundle.manifest().tokenizer;
  ASSIGN_OR_RETURN(const std::string model, bundle.ReadFile(config.file));
  SpecialTokens special;
  special.all = config.special_tokens;
  special.unk = config.unk;
  special.bos = config.bos;
  special.eos = config.eos;
  special.pad = config.pad;
  special.fake_image = config.fake_image;
  special.image = config.image;
  special.end_of_utterance = config.end_of_utterance;
  return Tokenizer::Create(model, std::move(special));
}

// The checkpoint of weights/demo: by its name, and smaller than what else could be called so.
bool IsDemo(const BundleManifest& manifest) {
  constexpr int64_t kMostHidden = 512;
  return manifest.name == "demo" && manifest.model.hidden_size <= kMostHidden;
}

ModelInfo DescribeModel(const BundleManifest& manifest, const PredictorOptions& options) {
  const TokenizerConfig& tokenizer = manifest.tokenizer;
  ModelInfo info;
  info.prompt_eos_token_ids = PromptEosTokenIds(manifest);
  info.question_eos_token_ids = QuestionEosTokenIds(manifest);
  info.banned_words_ids = {{tokenizer.image}, {tokenizer.fake_image}};
  info.max_sequence_tokens = options.engine.max_sequence_tokens;
  info.is_demo = IsDemo(manifest);
  const bool quantized = manifest.quantization != "none";
  info.form.weights = quantized ? manifest.quantization : DTypeName(manifest.dtype);
  if (options.runner.weights == DecoderWeights::kFp8) info.form.weights = "fp8";
  info.form.dtype = DTypeName(manifest.dtype);
  info.form.bundle_format = kBundleFormatVersion;
  return info;
}

ProcessorConstants Processor(const BundleManifest& manifest) {
  ProcessorConstants constants;
  constants.image_size = static_cast<int>(manifest.processor.image_size);
  for (size_t c = 0; c < 3; ++c) {
    constants.mean[c] = static_cast<float>(manifest.processor.image_mean[c]);
    constants.std[c] = static_cast<float>(manifest.processor.image_std[c]);
  }
  return constants;
}

}  // namespace

Result<std::unique_ptr<Predictor>> LoadModelPredictor(const PredictorOptions& options) {
  OpenBundleOptions open;
  open.verify_hashes = options.verify_hashes;
  open.verification_cache = DefaultVerificationCacheFolder();
  open.show_progress = options.show_progress;
  ASSIGN_OR_RETURN(const Bundle bundle, Bundle::Open(options.bundle, open));
  TorchRunnerOptions runner_options = options.runner;
  runner_options.max_num_seqs = options.engine.max_num_seqs;
  runner_options.max_sequence_tokens = options.engine.max_sequence_tokens;
  EnginePredictorParts parts;
  ASSIGN_OR_RETURN(parts.tokenizer, LoadTokenizer(bundle));
  ASSIGN_OR_RETURN(auto runner, MakeTorchRunner(bundle, runner_options));
  parts.info = DescribeModel(bundle.manifest(), options);
  parts.info.form.device = runner->limits().device;
  parts.processor = Processor(bundle.manifest());
  parts.image_limits = options.image_limits;
  parts.decode_memory = std::make_unique<DecodeMemory>(options.decode_memory_bytes);
  parts.engine = std::make_unique<Engine>(std::move(runner), options.engine);
  parts.info.max_concurrency = parts.engine->options().max_num_seqs;
  return std::unique_ptr<Predictor>(std::make_unique<EnginePredictor>(std::move(parts)));
}

}  // namespace idefics
