// SPDX-License-Identifier: Apache-2.0
// The model behind Cog's contract.
#pragma once

#include <functional>
#include <memory>

#include "predictor/predictor.h"
#include "server/cog/backend.h"
#include "server/cog/model_answer.h"
#include "server/fetch/image_source.h"

namespace idefics {

class ModelBackend final : public Backend {
 public:
  // Loads the predictor; runs on the setup thread.
  using Loader = std::function<Result<std::unique_ptr<Predictor>>()>;

  // `stall_s`: the engine is unhealthy when it makes no progress for so long; 0: never.
  ModelBackend(Loader loader, std::unique_ptr<ImageSource> images, AnswerOptions options,
               double stall_s = 0);

  Status Setup(std::stop_token stop) override;
  int max_concurrency() const override;
  Status Run(const nlohmann::json& input, PredictionSink& sink, std::stop_token stop) override;
  BackendHealth Health() const override;

 private:
  const Loader loader_;
  const std::unique_ptr<ImageSource> images_;
  const AnswerOptions options_;
  const double stall_s_;
  std::unique_ptr<Predictor> predictor_;  // set by Setup, before any Run
};

}  // namespace idefics
