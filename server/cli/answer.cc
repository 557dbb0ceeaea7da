// SPDX-License-Identifier: Apache-2.0
#include "server/cli/answer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/cog/input_parser.h"
#include "server/api/cog/prediction_object.h"
#include "server/api/metrics_object.h"

namespace idefics {
namespace {

using nlohmann::json;

class TextObserver final : public GenerateObserver {
 public:
  TextObserver(std::string* output, const std::function<void(std::string_view)>& on_text)
      : output_(*output), on_text_(on_text) {}
  void OnText(const TextPiece& piece) override {
    if (piece.text.empty()) return;
    output_ += piece.text;
    on_text_(piece.text);
  }

 private:
  std::string& output_;
  const std::function<void(std::string_view)>& on_text_;
};

}  // namespace

Answer AnswerInput(const json& input, Predictor& predictor, ImageSource& images,
                   const AnswerOptions& options, std::stop_token stop,
                   const std::function<void(std::string_view)>& on_text) {
  Answer answer;
  Task task = ParseInput(input, InputOrigin::kCommandLine);
  task.request.sampling.num_logprobs = options.num_logprobs;
  TextObserver observer(&answer.output, on_text);
  const TaskRunner runner(predictor, images, options.limits);
  answer.outcome = runner.Run(std::move(task), TaskClocks::Clock::now(), std::move(stop), observer);
  return answer;
}

json AnswerObject(const Answer& answer, bool details) {
  const TaskOutcome& outcome = answer.outcome;
  json metrics = json::object();
  for (const Metric& metric : MetricsOf(outcome)) metrics[metric.name] = MetricJson(metric.value);
  metrics["predict_time"] =
      std::chrono::duration<double>(outcome.clocks.completed - outcome.clocks.started).count();
  json object = {{"metrics", std::move(metrics)}};
  const bool ok = outcome.status.ok();
  const bool canceled = outcome.status.code() == ErrorCode::kCanceled;
  object["status"] = ok ? "succeeded" : canceled ? "canceled" : "failed";
  if (ok || !answer.output.empty()) object["output"] = answer.output;
  if (!ok) object["error"] = outcome.status.message();
  if (!details) return object;
  object["prompt_token_ids"] = outcome.result.prompt_token_ids;
  const Choice choice = outcome.result.choices.empty() ? Choice{} : outcome.result.choices.front();
  object["token_ids"] = choice.token_ids;
  json logprobs = json::array();
  for (const TokenLogprobs& token : choice.logprobs) logprobs.push_back(token.top);
  object["logprobs"] = std::move(logprobs);
  return object;
}

}  // namespace idefics
