// SPDX-License-Identifier: Apache-2.0
// Predictor: all that the server knows of the model. One implementation loads a bundle and runs it
// (model_predictor.h); tests use others. Thread safe: any number of threads may call Generate at
// once.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

#include "predictor/types.h"

namespace idefics {

// What an adapter must know to build a request.
struct ModelInfo {
  std::string name;                   // the bundle's source folder name
  int32_t vocab_size = 0;             // with the additional tokens
  bool has_end_of_utterance = false;  // instruct vocabulary
  std::vector<int32_t>
      default_eos_token_ids;  // <end_of_utterance> where the model has it, else </s>
  std::vector<std::vector<int32_t>> default_bad_words_ids;  // <image>, <fake_token_around_image>
  int max_sequence_tokens = 0;                              // prompt + new tokens of one request
  int max_images = 0;                                       // of one request
  int max_concurrency = 1;                                  // sequences the engine runs at once
};

// How it is, beside what it was asked.
struct PredictorHealth {
  bool broken = false;   // for good: nothing will run again in this process
  double stalled_s = 0;  // it has work and made no progress for so long
};

// A piece of new text, whole UTF-8 characters, in order. Called on the thread that called Generate.
using TextCallback = std::function<void(std::string_view piece)>;

class Predictor {
 public:
  virtual ~Predictor() = default;

  virtual const ModelInfo& info() const = 0;

  // Decodes and resizes the images, builds and checks the prompt, runs it to its end and returns.
  // `stop` cancels within one engine step. `on_text` may be empty; its pieces concatenate to
  // result.text. Never throws; never ends the process.
  virtual GenerateResult Generate(const GenerateRequest& request, std::stop_token stop,
                                  const TextCallback& on_text) = 0;

  // Takes no lock and never waits.
  virtual PredictorHealth health() const { return {}; }
};

}  // namespace idefics
