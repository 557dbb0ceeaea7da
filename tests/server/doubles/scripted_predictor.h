// SPDX-License-Identifier: Apache-2.0
// A Predictor that answers from a script: remembers each request and plays fixed pieces.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "predictor/predictor.h"

namespace idefics {

class ScriptedPredictor final : public Predictor {
 public:
  ScriptedPredictor() {
    info_.prompt_eos_token_ids = {99};
    info_.question_eos_token_ids = {2, 99};
    info_.banned_words_ids = {{98}, {97}};
    info_.max_concurrency = 4;
  }

  const ModelInfo& info() const override { return info_; }

  GenerateResult Generate(const GenerateRequest& request, std::stop_token stop,
                          GenerateObserver& observer) override {
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    if (on_generate) on_generate();
    GenerateResult result;
    Choice& choice = result.choices.emplace_back();
    choice.finish_reason = FinishReason::kEos;
    for (const std::string& text : pieces) {
      if (pause.count() > 0) std::this_thread::sleep_for(pause);
      if (stop.stop_requested()) {
        result.status = Status(ErrorCode::kCanceled, "canceled");
        return result;
      }
      choice.text += text;
      TextPiece piece;
      piece.text = text;
      observer.OnText(piece);
    }
    observer.OnChoiceEnd(0, choice.finish_reason);
    result.status = status;
    choice.full_text = full_text_prefix + choice.text;
    result.prompt_token_ids = {1, 2, 3};
    choice.token_ids = {4, 99};
    if (request.sampling.num_logprobs)
      choice.logprobs = {{-0.5F, {{4, -0.5F}, {5, -1.5F}}}, {-0.1F, {{99, -0.1F}}}};
    return result;
  }

  std::vector<GenerateRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

  PredictorHealth health() const override { return health_now; }

  // Set before use.
  PredictorHealth health_now;
  std::function<void()> on_generate;
  std::vector<std::string> pieces{" A", " dog."};
  std::string full_text_prefix = "User: hi \nAssistant:";
  Status status;
  std::chrono::milliseconds pause{0};

 private:
  ModelInfo info_;
  mutable std::mutex mutex_;
  std::vector<GenerateRequest> requests_;
};

}  // namespace idefics
