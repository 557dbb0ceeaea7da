// SPDX-License-Identifier: Apache-2.0
// Requests and an engine on a ToyRunner, for the engine's tests.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "predictor/engine/engine.h"
#include "predictor/model/toy_runner.h"

namespace idefics {

constexpr int32_t kToyVocab = 50;

inline RunnerLimits ToyLimits() {
  RunnerLimits limits;
  limits.vocab_size = kToyVocab;
  limits.kv_tokens = 600;
  limits.image_entries = 4;
  limits.image_size = 2;
  limits.max_rows_per_step = 8;
  return limits;
}

struct ToyEngine {
  explicit ToyEngine(EngineOptions options = {}, RunnerLimits limits = ToyLimits()) {
    auto owned = std::make_unique<ToyRunner>(limits);
    runner = owned.get();
    engine = std::make_unique<Engine>(std::move(owned), options);
  }
  ToyRunner* runner;  // engine thread's; read its counters only while the engine is idle
  std::unique_ptr<Engine> engine;
};

// A picture of `number`, at the toy's size.
inline EngineImage ToyImage(int number) {
  EngineImage image;
  image.sha256 = "image " + std::to_string(number);
  image.pixels.assign(3 * 2 * 2, static_cast<float>(number));
  return image;
}

// A prompt of `length` tokens with an image in its middle when `image` >= 0.
inline EngineRequest ToyRequest(int seed, int length, int max_new_tokens, int image = -1) {
  std::mt19937 random(seed);
  EngineRequest request;
  for (int i = 0; i < length; ++i) {
    request.tokens.push_back(static_cast<int32_t>(random() % kToyVocab));
    request.image_index.push_back(image >= 0 && i >= length / 2 ? 0 : -1);
  }
  if (image >= 0) request.images.push_back(ToyImage(image));
  request.sampling.max_new_tokens = max_new_tokens;
  request.sampling.eos_token_ids = {7};
  return request;
}

struct Outcome {
  std::vector<int32_t> tokens;
  Status status;
  FinishReason reason = FinishReason::kError;
};

inline Outcome Collect(Generation& generation) {
  Outcome outcome;
  TokenEvent event;
  while (!event.finished) {
    if (!generation.Next(&event, Generation::Clock::now() + std::chrono::seconds(20))) {
      outcome.status = Status::Internal("no event came for 20 s");
      return outcome;
    }
    outcome.tokens.insert(outcome.tokens.end(), event.tokens.begin(), event.tokens.end());
  }
  outcome.status = event.status;
  outcome.reason = event.finish_reason;
  return outcome;
}

inline Outcome RunAlone(const EngineRequest& request) {
  ToyEngine toy;
  auto generation = toy.engine->Submit(request);
  if (!generation.ok()) return {{}, generation.status(), FinishReason::kError};
  return Collect(**generation);
}

}  // namespace idefics
