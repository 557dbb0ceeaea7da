// SPDX-License-Identifier: Apache-2.0
// EnginePredictor: images, text and an engine put together into a Predictor. Knows no torch: with a
// ToyRunner in the engine it is the server tests' predictor.
#pragma once

#include <memory>
#include <span>

#include "predictor/engine/engine.h"
#include "predictor/images/decode_memory.h"
#include "predictor/images/preprocess.h"
#include "predictor/predictor.h"
#include "predictor/text/prompt.h"
#include "predictor/text/tokenizer.h"

namespace idefics {

struct EnginePredictorParts {
  ModelInfo info;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Engine> engine;
  ProcessorConstants processor;
  ImageLimits image_limits;
  std::unique_ptr<DecodeMemory> decode_memory =
      std::make_unique<DecodeMemory>(DecodeMemory::kAmpleBytes);
};

class EnginePredictor : public Predictor {
 public:
  explicit EnginePredictor(EnginePredictorParts parts) : parts_(std::move(parts)) {}

  const ModelInfo& info() const override { return parts_.info; }
  GenerateResult Generate(const GenerateRequest& request, std::stop_token stop,
                          GenerateObserver& observer) override;
  const Tokenizer* tokenizer() const override { return parts_.tokenizer.get(); }
  PredictorHealth health() const override;
  PredictorStats stats() const override;
  const EngineMeters* meters() const override { return &parts_.engine->meters(); }

 private:
  Result<EngineRequest> Prepare(const GenerateRequest& request, const std::stop_token& stop) const;
  Result<EngineImage> PrepareImage(const PromptImage& image, const std::stop_token& stop) const;
  SamplingParams ResolveSampling(const GenerateRequest& request) const;
  int FittingNewTokens(const EngineRequest& request) const;
  static void ShowPrompt(std::span<const TokenLogprobs> logprobs, const GenerateResult& result,
                         GenerateObserver& observer);
  void Follow(RequestHandle& handle, const SamplingParams& sampling, GenerateObserver& observer,
              GenerateResult* result) const;

  EnginePredictorParts parts_;
};

}  // namespace idefics
