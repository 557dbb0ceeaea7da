// SPDX-License-Identifier: Apache-2.0
#include "server/cog/model_backend.h"

#include <algorithm>
#include <utility>

namespace idefics {

ModelBackend::ModelBackend(Loader loader, std::unique_ptr<ImageSource> images,
                           AnswerOptions options, double stall_s)
    : loader_(std::move(loader)),
      images_(std::move(images)),
      options_(options),
      stall_s_(stall_s) {}

Status ModelBackend::Setup(std::stop_token) {
  ASSIGN_OR_RETURN(predictor_, loader_());
  return Status::Ok();
}

int ModelBackend::max_concurrency() const {
  return std::max(1, predictor_->info().max_concurrency);
}

Status ModelBackend::Run(const nlohmann::json& input, PredictionSink& sink, std::stop_token stop) {
  const ModelAnswer answer = AnswerInput(input, *predictor_, *images_, options_, stop,
                                         [&](std::string_view piece) { sink.Output(piece); });
  const nlohmann::json metrics = AnswerMetrics(answer);
  for (const auto& [name, value] : metrics.items()) sink.Metric(name, value);
  return answer.status;
}

BackendHealth ModelBackend::Health() const {
  using State = BackendHealth::State;
  const PredictorHealth health = predictor_->health();
  if (health.broken) {
    return {State::kDefunct,
            "The engine has failed for good, its log says why: restart the server."};
  }
  if (stall_s_ > 0 && health.stalled_s > stall_s_) {
    return {State::kUnhealthy, "The engine has made no progress for " +
                                   std::to_string(static_cast<int>(health.stalled_s)) +
                                   " s (--stall-timeout)."};
  }
  return {};
}

}  // namespace idefics
