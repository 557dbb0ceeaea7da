// SPDX-License-Identifier: Apache-2.0
#include "server/cog/model_answer.h"

#include <chrono>
#include <cmath>

#include "server/cog/answer_text.h"
#include "server/cog/input_adapter.h"

namespace idefics {
namespace {

using nlohmann::json;

// Seconds, rounded to microseconds.
double Micros(double seconds) { return std::round(seconds * 1e6) / 1e6; }

const char* FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEos:
      return "eos";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kStopString:
      return "stop";
    case FinishReason::kCanceled:
      return "canceled";
    case FinishReason::kError:
      return "error";
  }
  return "error";
}

Status FetchImages(ImageSource& images, const std::stop_token& stop, PlannedRequest* plan) {
  if (plan->images.empty()) return Status::Ok();
  ASSIGN_OR_RETURN(const std::vector<ImageBytes> files, images.Fetch(plan->images, stop));
  AttachImages(files, plan);
  return Status::Ok();
}

GenerateResult Generate(const PlannedRequest& plan, Predictor& predictor, std::stop_token stop,
                        const std::function<void(std::string_view)>& emit) {
  switch (plan.answer) {
    case AnswerText::kNew:
      return predictor.Generate(plan.request, stop, emit);
    case AnswerText::kStripped: {
      StrippingEmitter stripping(emit);
      return predictor.Generate(plan.request, stop,
                                [&](std::string_view piece) { stripping.Add(piece); });
    }
    case AnswerText::kFull:
      break;
  }
  // The prompt's part of the text is known only with the whole: one piece.
  GenerateResult result = predictor.Generate(plan.request, stop, nullptr);
  if (!result.full_text.empty()) emit(result.full_text);
  return result;
}

}  // namespace

ModelAnswer AnswerInput(const json& input, Predictor& predictor, ImageSource& images,
                        const AnswerOptions& options, std::stop_token stop,
                        const std::function<void(std::string_view)>& emit) {
  ModelAnswer answer;
  auto plan = PlanRequest(input, predictor.info(), options.origin, options.max_images);
  if (!plan.ok()) {
    answer.status = plan.status();
    return answer;
  }
  plan->request.sampling.num_logprobs = options.num_logprobs;
  const auto start = std::chrono::steady_clock::now();
  answer.status = FetchImages(images, stop, &*plan);
  answer.fetch_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!answer.status.ok()) return answer;
  answer.result = Generate(*plan, predictor, stop, [&](std::string_view piece) {
    answer.output += piece;
    emit(piece);
  });
  answer.status = answer.result.status;
  return answer;
}

json AnswerMetrics(const ModelAnswer& answer) {
  const GenerateResult& result = answer.result;
  json metrics = {{"input_token_count", result.prompt_token_ids.size()},
                  {"output_token_count", result.token_ids.size()},
                  {"image_count", result.num_images},
                  {"fetch_time", Micros(answer.fetch_s)},
                  {"preprocess_time", Micros(result.timings.preprocess_s)},
                  {"queue_time", Micros(result.timings.queue_s)},
                  {"time_to_first_token", Micros(result.timings.first_token_s)},
                  {"finish_reason", FinishReasonName(result.finish_reason)}};
  const double decode_s = result.timings.total_s - result.timings.first_token_s;
  if (result.token_ids.size() > 1 && decode_s > 0) {
    metrics["tokens_per_second"] =
        std::round(static_cast<double>(result.token_ids.size() - 1) / decode_s * 10) / 10;
  }
  return metrics;
}

}  // namespace idefics
