// SPDX-License-Identifier: Apache-2.0
#include "server/cog/model_backend.h"

#include <algorithm>
#include <utility>

namespace idefics {

ModelBackend::ModelBackend(Loader loader, std::unique_ptr<ImageSource> images,
                           AnswerOptions options)
    : loader_(std::move(loader)), images_(std::move(images)), options_(options) {}

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

}  // namespace idefics
