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

inline RunnerLimits ToyLimits(bool samples_on_device = false) {
  RunnerLimits limits;
  limits.vocab_size = kToyVocab;
  limits.kv_tokens = 600;
  limits.image_cache_slots = 4;
  limits.image_size = 2;
  limits.samples_on_device = samples_on_device;
  return limits;
}

struct ToyEngine {
  explicit ToyEngine(EngineOptions options = {}, RunnerLimits limits = ToyLimits(),
                     const ToyTimes& times = {}) {
    auto owned = std::make_unique<ToyRunner>(limits, times);
    runner = owned.get();
    engine = std::make_unique<Engine>(std::move(owned), options);
  }
  ToyRunner* runner;  // engine thread's; read its counters only while the engine is idle
  std::unique_ptr<Engine> engine;
};

// An image of `number`, at the toy's size.
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

inline Outcome Collect(RequestHandle& handle) {
  Outcome outcome;
  TokenEvent event;
  while (!event.finished) {
    if (!handle.Next(&event, RequestHandle::Clock::now() + std::chrono::hours(1))) {
      outcome.status = Status::Internal("no event came for an hour");
      return outcome;
    }
    outcome.tokens.insert(outcome.tokens.end(), event.tokens.begin(), event.tokens.end());
  }
  outcome.status = event.status;
  outcome.reason = event.finish_reason;
  return outcome;
}

// Of each choice, by events of several.
inline std::vector<Outcome> CollectChoices(RequestHandle& handle, int count) {
  std::vector<Outcome> outcomes(count);
  TokenEvent event;
  while (!event.finished) {
    if (!handle.Next(&event, RequestHandle::Clock::now() + std::chrono::hours(1))) {
      outcomes.front().status = Status::Internal("no event came for an hour");
      return outcomes;
    }
    Outcome& outcome = outcomes.at(event.choice);
    outcome.tokens.insert(outcome.tokens.end(), event.tokens.begin(), event.tokens.end());
    if (event.choice_finished) outcome.reason = event.finish_reason;
  }
  for (Outcome& outcome : outcomes) outcome.status = event.status;
  return outcomes;
}

// The request that choice `index` of `request` must be equal to.
inline EngineRequest ChoiceAlone(EngineRequest request, int index) {
  request.sampling.seed = ChoiceSeed(*request.sampling.seed, index);
  request.sampling.num_choices = 1;
  return request;
}

// What the request must give: every sequence is run from its first token again for each new token,
// with a runner of its own and no engine, KV cache or neighbour involved.
inline Outcome RunFromScratch(const EngineRequest& request) {
  auto search = MakeTokenSearch(request.sampling, request.tokens);
  std::vector<std::vector<int32_t>> sequences = {request.tokens};
  while (!search->finished()) {
    std::vector<float> logits(sequences.size() * kToyVocab);
    for (size_t i = 0; i < sequences.size(); ++i) {
      RunnerLimits limits = ToyLimits();
      limits.image_cache_slots = static_cast<int32_t>(request.images.size());
      ToyRunner runner(limits);
      std::vector<int32_t> slots(request.image_index);
      slots.resize(sequences[i].size(), slots.back());
      for (size_t image = 0; image < request.images.size(); ++image) {
        (void)runner.EncodeImage(request.images[image].pixels, static_cast<int32_t>(image));
      }
      StepRow row;
      row.tokens = sequences[i];
      row.image_slots = slots;
      (void)runner.Step(std::span(&row, 1), std::span(logits).subspan(i * kToyVocab, kToyVocab));
    }
    const SearchStep step = search->Advance(logits, kToyVocab);
    std::vector<std::vector<int32_t>> next;
    for (size_t i = 0; i < step.parents.size(); ++i) {
      next.push_back(sequences[step.parents[i]]);
      next.back().push_back(step.tokens[i]);
    }
    sequences = std::move(next);
  }
  return {search->new_tokens(), Status::Ok(), search->finish_reason()};
}

}  // namespace idefics
