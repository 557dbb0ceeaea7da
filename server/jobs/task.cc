// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/task.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "server/jobs/stripped_text.h"

namespace idefics {
namespace {

using Clock = TaskClocks::Clock;

double SecondsBetween(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// Rounded to microseconds.
double Micros(double seconds) { return std::round(seconds * 1e6) / 1e6; }

// Whatever keeps an image from being there is one kind of failure to the APIs.
Status FetchFailure(const Status& status) {
  const bool is_kind_of_its_own =
      status.code() == ErrorCode::kCanceled || status.code() == ErrorCode::kForbiddenUrl;
  if (is_kind_of_its_own) return status;
  const Status failure(ErrorCode::kFetchFailed, status.message());
  return status.item() ? failure.WithItem(*status.item()) : failure;
}

// Passes on what the predictor shows, with the text cut to the answer.
class ResponseObserver final : public GenerateObserver {
 public:
  ResponseObserver(ResponseText response, GenerateObserver& observer)
      : response_(response), observer_(observer) {}

  void OnText(const TextPiece& piece) override {
    if (response_ == ResponseText::kNew) observer_.OnText(piece);
    if (response_ == ResponseText::kStripped) StrippedOf(piece.choice).Add(piece.text);
  }
  void OnPrompt(int num_tokens, int num_image_tokens) override {
    observer_.OnPrompt(num_tokens, num_image_tokens);
  }
  void OnChoiceEnd(int choice, FinishReason reason) override {
    if (response_ != ResponseText::kFull) observer_.OnChoiceEnd(choice, reason);
  }
  void OnLog(LogSource source, std::string_view text) override { observer_.OnLog(source, text); }
  void OnMetric(Metric metric) override { observer_.OnMetric(std::move(metric)); }

  void Finish(const GenerateResult& result) {
    if (response_ != ResponseText::kFull) return;
    for (size_t i = 0; i < result.choices.size(); ++i) {
      const Choice& choice = result.choices[i];
      const auto index = static_cast<int>(i);
      if (!choice.full_text.empty()) Show(choice.full_text, index);
      observer_.OnChoiceEnd(index, choice.finish_reason);
    }
  }

 private:
  void Show(std::string_view text, int choice) {
    TextPiece piece;
    piece.text = text;
    piece.choice = choice;
    observer_.OnText(piece);
  }
  StrippedText& StrippedOf(int choice) {
    const auto emit = [this, choice](std::string_view text) { Show(text, choice); };
    return stripped_.try_emplace(choice, emit).first->second;
  }

  const ResponseText response_;
  GenerateObserver& observer_;
  std::map<int, StrippedText> stripped_;  // by choice
};

}  // namespace

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

Status TaskRunner::CheckNumImages(size_t count) const {
  if (count <= static_cast<size_t>(limits_.max_images)) return Status::Ok();
  return Status::TooLarge("the prompt has " + std::to_string(count) + " images, the limit is " +
                          std::to_string(limits_.max_images) + " (--max-images)");
}

Status TaskRunner::FetchImages(Task* task, const std::stop_token& stop) const {
  std::vector<PromptImage*> missing;
  std::vector<std::string> references;
  for (PromptPiece& piece : task->request.prompt) {
    auto* image = std::get_if<PromptImage>(&piece);
    if (image == nullptr) continue;
    missing.push_back(image);
    references.push_back(image->reference);
  }
  RETURN_IF_ERROR(CheckNumImages(missing.size()));
  if (missing.empty()) return Status::Ok();
  Result<std::vector<ImageBytes>> files = images_.Fetch(references, stop, task->span);
  if (!files.ok()) return FetchFailure(files.status());
  for (size_t i = 0; i < missing.size(); ++i) missing[i]->file = std::move((*files)[i]);
  return Status::Ok();
}

TaskOutcome TaskRunner::Run(Task task, Clock::time_point received, std::stop_token stop,
                            GenerateObserver& observer) const {
  TaskOutcome outcome;
  outcome.clocks.received = received;
  outcome.clocks.started = Clock::now();
  outcome.status = task.refusal;
  if (outcome.status.ok()) {
    outcome.status = FetchImages(&task, stop);
    outcome.fetch_s = SecondsBetween(outcome.clocks.started, Clock::now());
  }
  if (outcome.status.ok()) {
    const bool is_model = predictor_.info().is_model;
    ResponseObserver response(is_model ? task.response : ResponseText::kNew, observer);
    outcome.result = predictor_.Generate(task.request, stop, response);
    outcome.status = outcome.result.status;
    outcome.clocks.first_token = outcome.result.timings.first_token_at;
    response.Finish(outcome.result);
  }
  outcome.clocks.completed = Clock::now();
  return outcome;
}

std::vector<Metric> MetricsOf(const TaskOutcome& outcome) {
  const GenerateResult& result = outcome.result;
  const TaskClocks& clocks = outcome.clocks;
  size_t num_tokens = 0;
  for (const Choice& choice : result.choices) num_tokens += choice.token_ids.size();
  const FinishReason reason =
      result.choices.empty() ? FinishReason::kError : result.choices.front().finish_reason;
  const bool has_token = clocks.first_token != Clock::time_point{};
  const double queue_s = SecondsBetween(clocks.received, clocks.started) + result.timings.queue_s;
  const double first_token_s = has_token ? SecondsBetween(clocks.received, clocks.first_token) : 0;
  std::vector<Metric> metrics = {
      {"input_token_count", static_cast<int64_t>(result.prompt_token_ids.size())},
      {"cached_token_count", result.num_cached_tokens},
      {"output_token_count", static_cast<int64_t>(num_tokens)},
      {"image_count", int64_t{result.num_images}},
      {"fetch_time", Micros(outcome.fetch_s)},
      {"preprocess_time", Micros(result.timings.preprocess_s)},
      {"queue_time", Micros(queue_s)},
      {"time_to_first_token", Micros(first_token_s)},
      {"finish_reason", std::string(FinishReasonName(reason))}};
  const double decode_s = has_token ? SecondsBetween(clocks.first_token, clocks.completed) : 0;
  if (num_tokens > result.choices.size() && decode_s > 0) {
    const double per_second = static_cast<double>(num_tokens - result.choices.size()) / decode_s;
    metrics.push_back({"tokens_per_second", std::round(per_second * 10) / 10});
  }
  return metrics;
}

}  // namespace idefics
